"""The public names, each with the module that defines it; ``__init__.py`` imports them from here on first use."""

# ruff: noqa: I001 - in groups

# the steps
from dfq_deploy.graph.loading import load as load
from dfq_deploy.graph.torch_export import from_torch as from_torch
from dfq_deploy.inspection.inspect import inspect as inspect
from dfq_deploy.pipeline.synthesize import synthesize as synthesize
from dfq_deploy.pipeline.calibrate import calibrate as calibrate
from dfq_deploy.pipeline.finetune import finetune as finetune
from dfq_deploy.pipeline.export import export as export
from dfq_deploy.checking.run import check as check
from dfq_deploy.pipeline.evaluate import evaluate as evaluate

# what they take and return
from dfq_deploy.samples.samples import Samples as Samples
from dfq_deploy.samples.preprocess import PREPROCESSES as PREPROCESSES, Preprocess as Preprocess
from dfq_deploy.synthesis.teachers import Teacher as Teacher
from dfq_deploy.qat.recipe import Recipe as Recipe
from dfq_deploy.encodings import Encoding as Encoding, QuantType as QuantType, Range as Range
from dfq_deploy.targets.catalog import TARGETS as TARGETS, find_target as find_target
from dfq_deploy.verdict.gates import Gates as Gates

# our samples for other tools
from dfq_deploy.samples.data_readers import OnnxRuntimeReader as OnnxRuntimeReader, PolygraphyLoader as PolygraphyLoader

# what can go wrong
from dfq_deploy.errors import DfqError as DfqError
from dfq_deploy.errors import ModelError as ModelError
from dfq_deploy.errors import UnsupportedOperators as UnsupportedOperators
from dfq_deploy.errors import SamplesError as SamplesError
from dfq_deploy.errors import TargetError as TargetError
from dfq_deploy.errors import PluginError as PluginError
from dfq_deploy.errors import OptionError as OptionError
from dfq_deploy.errors import OutputError as OutputError

__version__: str
__all__: list[str]

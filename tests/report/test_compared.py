"""Two reports side by side."""

import copy

from dfq_deploy.report.compared import compared
from dfq_deploy.report.page import page
from tests.report.reports import full


def test_figures_settings_and_tensors_are_compared() -> None:
    this, other = full(), copy.deepcopy(full())
    other["comparison"]["agreement"] = 90.0
    other["quantized"]["file_bytes"] = 400_000
    other["calibration"]["method"] = "minmax"
    other["tensors"][0]["snr_db"] = 5.0
    other["verdict"]["status"] = "BAD"
    found = compared(this, other, "other/report.json")
    rows = {row["name"]: row for row in found["figures"]}
    agreement, size = rows["same class as float, held-out samples"], rows["size of the quantized file"]
    assert (agreement["this"], agreement["other"], agreement["better"]) == (98.44, 90.0, True)
    assert (size["difference"], size["better"]) == (100_000, False)
    assert rows["signal to noise of the first output"]["better"] is None
    assert found["settings"] == [{"name": "calibrator", "this": "mse", "other": "minmax"}]
    assert found["tensors"] == [{"name": "a<b", "this": 8, "other": 5.0, "difference": 3.0}]
    assert found["verdict"] == {"this": "CHECK", "other": "BAD"}
    text = page({**this, "compared": found})
    for words in ("CHECK against BAD", "+8.4 %", "+100 kB", "+3.0 dB", ">better<", ">worse<", "against minmax"):
        assert words in text, words


def test_what_one_report_lacks_is_left_out() -> None:
    found = compared({"comparison": {"agreement": 99.0}}, {"comparison": {}}, "old")
    assert found["figures"] == []
    assert found["verdict"] == {"this": None, "other": None}

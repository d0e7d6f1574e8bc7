"""Round weights without descent: ridge regression, then GPTQ.

================ ====================================================================================
``layer_matrix`` See a convolution or a matrix product as matrices that its input is multiplied with.
``layers``       Round weights in closed form, layer by layer: ridge regression, then GPTQ.
``rounding``     Round matrices one input after another, each making up for earlier errors (GPTQ).
================ ====================================================================================
"""

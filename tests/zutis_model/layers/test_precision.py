import pytest
import torch

from zutis_model.layers.precision import autocast, check_precision


def test_unknown_precision_is_refused():
    check_precision("float32")
    check_precision("bfloat16")
    with pytest.raises(ValueError, match="float16"):
        check_precision("float16")


def test_only_bfloat16_changes_the_arithmetic():
    a = torch.ones(2, 2)
    with autocast(torch.device("cpu"), "float32"):
        assert (a @ a).dtype == torch.float32
    with autocast(torch.device("cpu"), "bfloat16"):
        assert (a @ a).dtype == torch.bfloat16

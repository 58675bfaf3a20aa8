"""The names of transformers that we lean on are in the installed version, in the shapes that we use."""

import pytest

from tests.support.shapes import Shapes, cases_of, check_names, check_shape

SEAM = "training/worker/transformers_private.py"
SHAPES: Shapes = {
    "transformers.AttentionInterface": {
        "register": "key, value",
    },
    "transformers.integrations.sdpa_attention": {
        "sdpa_attention_forward": (
            "module, query, key, value, attention_mask, dropout=, scaling=, is_causal=, "
            "position_bias=, cache=, **kwargs"
        ),
    },
}


@pytest.mark.parametrize(("owner", "name"), cases_of(SHAPES))
def test_name_has_the_shape_that_we_use(owner: str, name: str) -> None:
    check_shape(owner, name, SHAPES[owner][name])


def test_every_name_of_the_seam_has_a_shape() -> None:
    check_names(SEAM, SHAPES)

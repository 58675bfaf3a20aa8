"""The configuration of pytest makes a warning that our own code causes an error."""

import warnings

import pytest


def test_warning_of_our_own_code_is_an_error() -> None:
    with pytest.raises(DeprecationWarning):
        warnings.warn("this is old", DeprecationWarning, stacklevel=1)

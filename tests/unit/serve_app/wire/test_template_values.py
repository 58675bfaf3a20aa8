"""A client cannot give a template the names that the renderer and Jinja give it."""

import inspect

import jinja2
import pytest
from transformers import PythonBackend
from transformers.utils.chat_template_utils import render_jinja_template

from serve_app.wire.template_values import FUNCTIONS, OF_THE_RENDERER


@pytest.mark.parametrize("function", [PythonBackend.apply_chat_template, render_jinja_template])
def test_arguments_of_the_renderer_are_its_own(function: object) -> None:
    assert callable(function)
    assert set(inspect.signature(function).parameters) <= OF_THE_RENDERER


def test_functions_of_templates_are_jinjas_own() -> None:
    assert set(jinja2.defaults.DEFAULT_NAMESPACE) <= FUNCTIONS

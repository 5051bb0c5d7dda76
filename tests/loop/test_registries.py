"""What settings allow is what is registered, and a name that is missing is told with its place."""

import typing

from row_by_row import row_by_row

from symbiosis.loop import teaching
from symbiosis.loop.feedback import SIGNALS
from symbiosis.loop.methods import METHODS, NEEDS_GENERATOR
from symbiosis.settings import RunSettings

UPDATES = {name.removeprefix("update_") for name in vars(teaching) if name.startswith("update_")} | {"none", "teach"}
PLACES = {
    "feedback": (set(SIGNALS), "symbiosis/loop/feedback.py: a function under @signal(...)"),
    "method": (set(METHODS), "symbiosis/loop/methods.py: a function under @method(...)"),
    "generator_update": (
        UPDATES,
        "symbiosis/loop/teaching.py: a function update_..., called in methods.update_generator,",
    ),
}


@row_by_row("name", PLACES)
def test_settings_and_registry_name_the_same(name):
    registered, place = PLACES[name]
    allowed = set(typing.get_args(RunSettings.model_fields[name].annotation))
    assert not allowed - registered, f"{place} is missing for {allowed - registered}"
    missing = registered - allowed
    assert not missing, f"symbiosis/settings/run.py: RunSettings.{name} does not list {missing}"


def test_methods_that_ask_a_generator_are_methods():
    assert set(METHODS) > NEEDS_GENERATOR

"""The names of the placement groups of training runs."""

from training.runs import groups_of, groups_of_new_run


def test_groups_of_a_run_are_those_of_its_base_model_but_not_those_of_another_run() -> None:
    """A run that ends removes its groups. The next Trainer may have begun a run of the same base model."""
    ending, beginning = groups_of_new_run("tiger", "one"), groups_of_new_run("tiger", "one")
    for groups in (ending, beginning):
        assert groups.startswith(groups_of("tiger", "one")) and groups.startswith(groups_of("tiger"))
        assert not groups.startswith(groups_of("tiger", "on"))
    assert not f"{beginning}12ab".startswith(ending) and not f"{ending}12ab".startswith(beginning)

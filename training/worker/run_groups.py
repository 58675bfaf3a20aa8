"""Removes the placement groups of training runs that are over.

A placement group reserves the resources of a run's workers. Ray removes it only when the whole job that made
it has ended, and for the parts of a Serve application that is the end of Serve. Ray Train removes the groups
of a controller that lives, and those of a dead one whose workers had started. A group that waits for
resources while its controller dies would be granted later, and would stay for ever with nothing in it.

    run_mark            ->  each group has a name (`training.runs`)
    a run ends          ->  its own groups are removed
    a Trainer starts    ->  those of its application are removed: an earlier Trainer left them
"""

import logging

from ray import PlacementGroupID
from ray.util import placement_group_table, remove_placement_group
from ray.util.placement_group import PlacementGroup

logger = logging.getLogger("ray.serve")


def remove_groups(beginning: str) -> None:
    """Remove the groups whose names begin so, with the workers in them. Their runs or Trainers have ended."""
    for group_id, group in placement_group_table().items():
        if group["name"].startswith(beginning) and group["state"] != "REMOVED":
            logger.info("removing the placement group %s of a training run that is over", group["name"])
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group_id))))

"""The names of TRL that we lean on are in the installed TRL, in the shapes that we use."""

import inspect

import pytest
import trl

from tests.support.shapes import ATTRIBUTE, Shapes, cases_of, check_names, check_overrides, check_shape
from training.worker.pack_trainer import PackTrainer
from training.worker.trl_private import LOSS_INPUTS, GRPOTrainer

SEAM = "training/worker/trl_private.py"
SHAPES: Shapes = {
    "trl.import_utils": {
        "is_vllm_available": "min_version=",
    },
    "trl.trainer.grpo_config": {
        "GRPOConfig": ATTRIBUTE,
    },
    "trl.trainer.grpo_trainer.GRPOTrainer": {
        "__init__": (
            "self, model, reward_funcs=, args=, train_dataset=, eval_dataset=, processing_class=, "
            "reward_processing_classes=, callbacks=, optimizers=, quantization_config=, peft_config=, "
            "tools=, rollout_func=, environment_factory="
        ),
        "_compute_loss": "self, model, inputs",
        "_get_per_token_logps_and_entropies": (
            "self, model, input_ids, attention_mask, logits_to_keep, batch_size=, compute_entropy=, "
            "compute_aux_loss=, pixel_values=, image_grid_thw=, num_images=, pixel_attention_mask=, "
            "spatial_shapes=, num_tiles=, image_sizes=, token_type_ids=, mm_token_type_ids=, "
            "image_position_ids="
        ),
        "_metrics": ATTRIBUTE,
        "_send_telemetry": "self",
        "compute_loss": "self, model, inputs, return_outputs=, num_items_in_batch=",
        "compute_loss_context_manager": "self",
        "create_optimizer": "self, model=",
        "create_scheduler": "self, num_training_steps, optimizer=",
        "get_train_dataloader": "self",
        "log": "self, logs, start_time=",
        "remove_callback": "self, callback",
        "training_step": "self, model, inputs, num_items_in_batch",
    },
}


@pytest.mark.parametrize(("owner", "name"), cases_of(SHAPES))
def test_name_has_the_shape_that_we_use(owner: str, name: str) -> None:
    check_shape(owner, name, SHAPES[owner][name])


def test_every_name_of_the_seam_has_a_shape() -> None:
    check_names(SEAM, SHAPES)


def test_every_override_is_listed() -> None:
    check_overrides(SEAM, PackTrainer, GRPOTrainer)


@pytest.mark.parametrize("name", LOSS_INPUTS)
def test_loss_reads_its_input(name: str) -> None:
    source = inspect.getsource(GRPOTrainer._compute_loss)
    assert f'"{name}"' in source, f"trl {trl.__version__}: GRPOTrainer._compute_loss does not read {name}"

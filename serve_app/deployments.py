"""Names of the deployments, as the Ray dashboard shows them."""

APPLICATION = "tiger"
INGRESS = "Ingress"
CATALOG = "Catalog"
TRAINER = "Trainer"


def model_server_name(base_model: str) -> str:
    return f"ModelServer:{base_model}"

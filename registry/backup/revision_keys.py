"""The keys of the objects of a revision, as `registry/revisions.py` writes them in every layout so far."""


def revision_prefix(uid: str, revision: int) -> str:
    return f"models/{uid}/revisions/{revision:06d}/"


def manifest_key(uid: str, revision: int) -> str:
    return f"{revision_prefix(uid, revision)}manifest.json"


def optimizer_key(uid: str, revision: int) -> str:
    return f"{revision_prefix(uid, revision)}optimizer.safetensors"


def state_key(uid: str, revision: int, job: str) -> str:
    return f"{revision_prefix(uid, revision)}state-{job}.safetensors"

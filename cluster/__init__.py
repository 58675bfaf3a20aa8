"""The files that deploy tiger on a cluster, and the check of the KubeRay manifest."""

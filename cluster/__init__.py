"""What deploys tiger on a cluster, and the check of the KubeRay manifest."""

import subprocess
import sys

CODE = """
import pkgutil, sys, registry
for module in pkgutil.iter_modules(registry.__path__, "registry."):
    __import__(module.name)
heavy = {"ray", "torch", "fastapi", "vllm", "transformers", "trl", "serve_app", "training"}
print(*sorted(heavy & set(sys.modules)))
"""


def test_registry_loads_nothing_heavy() -> None:
    answer = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""

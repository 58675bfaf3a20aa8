pytest_plugins = [
    "tests.support.storage",
    "tests.support.weights",
    "tests.support.tiny_model",
    "tests.support.system",
]

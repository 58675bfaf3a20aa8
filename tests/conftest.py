pytest_plugins = ["tests.support.storage", "tests.support.weights", "tests.support.system"]

def pytest_addoption(parser):
    parser.addoption("--shots", default=None, help="a folder for the screenshots")

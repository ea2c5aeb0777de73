"""The pages that ``nox -s docs`` builds, looked at without a browser, and in one (``nox -s docs_look``)."""

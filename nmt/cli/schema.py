"""`nmt schema`."""

from __future__ import annotations

import json

from nmt.told import say


def schema() -> None:
    """Print the JSON schema of configuration files: every key with its type, default and meaning.

    Editors complete and check a file by it. In VS Code, with the extension "YAML" by Red Hat, and in every other
    editor with yaml-language-server, the first line of the file names the schema:

    \b
    Example:
      nmt schema > nmt.schema.json
      # yaml-language-server: $schema=nmt.schema.json       (first line of my.yaml)
    """
    from nmt.config import Config

    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    say(*json.dumps(schema, indent=2).split("\n"))

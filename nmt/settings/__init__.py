"""From YAML files and `--set` to a `Config`, and back; every mistake is named with its file, line and key.

`load` is what others call, and `paths` for the files that settings name. Below it: `layers`, values as they are written
and who set them; `sections`, where a key belongs; `mistakes`, what to say of one that does not.
"""

"""The subcommands of `emind`, a module each with ``add_arguments(parser)`` and ``run(options) -> exit status``."""

"""`python -m fnet COMMAND` is the command `fnet COMMAND`."""

from fnet.cli.main import main

raise SystemExit(main())

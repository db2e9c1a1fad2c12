"""`python -m vastai_workflow`: the command line."""

import sys

from vastai_workflow.cli import main

if __name__ == "__main__":
    sys.exit(main())

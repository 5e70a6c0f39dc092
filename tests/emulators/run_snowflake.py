"""fakesnow at a port, by its own interpreter: `run_snowflake.py PORT`.

Two things it does otherwise than Snowflake are mended here: it copies staged files as CSV where the copy does not say
their format (the driver's stage does: Parquet), and finds no temporary table by its schema: here they are plain ones.
"""

import sys

from fakesnow import cli, cursor

STAGED = "COPY INTO IDENTIFIER(?) FROM @ADBC$BIND"
TEMPORARY = "create temporary table"
_execute = cursor.FakeSnowflakeCursor.execute


def execute(self, command, *args, **kwargs):
    if command.startswith(STAGED):
        command += " FILE_FORMAT = (TYPE = PARQUET)"
    if command.startswith(TEMPORARY):
        command = command.replace(TEMPORARY, "create table", 1)
    return _execute(self, command, *args, **kwargs)


cursor.FakeSnowflakeCursor.execute = execute
sys.exit(cli.main(["--server", "--port", sys.argv[1]]))

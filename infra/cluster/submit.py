"""`spark-submit infra/cluster/submit.py <words of python -m jobs>`: a stage where a platform starts the driver.

The checkout has to be on PYTHONPATH and `spark.master` empty. A failure leaves as an exception: the process may be the
platform's own, which an exit code would end.
"""

import sys

from jobs.__main__ import main

if __name__ == "__main__":
    main(sys.argv[1:])

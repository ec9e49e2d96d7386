"""The time of a new process until its first epoch: `python start.py JSON` prints the seconds as JSON."""

import json
import sys
import time

begin = time.perf_counter()
import numpy as np  # noqa: E402

numpy = time.perf_counter()
import fnet  # noqa: E402

imported = time.perf_counter()
engine = json.loads(sys.argv[1])["engine"]
x = np.random.default_rng(0).standard_normal((256, 128), np.float32)
train = fnet.Dataset(x, np.arange(len(x)) % 10)
next(fnet.fit(fnet.MLPConfig(dropout=0.3), fnet.TrainConfig(), train, key=fnet.random.key(0), engine=engine))
end = time.perf_counter()

seconds = {"import numpy": numpy - begin, "import fnet": imported - numpy, "first epoch": end - imported}
print(json.dumps(seconds | {"sum": end - begin}))

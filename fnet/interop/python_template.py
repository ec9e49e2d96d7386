"""The parts of a module that `fnet.interop.python_source` puts together; `<NAME>` stands for what differs.

They check what strangers give them, as `fnet` does, and read cells as `fnet.data` does: `encode`, `from_columns`, and
for the columns of a file `read_table`, but for guesses: the first row is the header, and the decimal mark is a point.
"""

MODULE = '''\
"""<DOC>
"""

<IMPORTS>

import numpy as np

<CONSTANTS>


<PREDICT>def <FUNCTION>(rows):
    """<WHAT>"""
    x = features(rows)
    parts = []
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
        for start in range(0, len(x), <CHUNK>):  # as many rows at a time as in fnet, for the same bits
            z = ((x[start : start + <CHUNK>] - MEAN) / STD).astype(np.<DTYPE>)
            if not np.isfinite(z).all():
                raise ValueError("a feature is not finite, or too large")
            <COMBINE>
    y = np.concatenate(parts)
    if not np.isfinite(y).all():
        raise ValueError("a feature is so large that the network overflows")
    return <RESULT>


def network(x, layers):
    """The outputs of the network for standardized features x, [rows, <FEATURES>]."""
    for w, b in layers[:-1]:
        x = x @ w + b<ACTIVATION>
    w, b = layers[-1]
    return x @ w + b


<SOFTMAX>def features(rows):
    """The features of the rows, [rows, <FEATURES>]."""
<BY_NAME>    x = np.asarray(rows)
    if isinstance(rows, np.ma.MaskedArray) or x.dtype.kind not in "fiub":
        raise TypeError(f"expected numbers [rows, <FEATURES>], but got {type(rows).__name__} of {x.dtype}")
    if x.ndim != 2 or x.shape[1] != <FEATURES> or len(x) == 0:
        raise ValueError(f"expected numbers [rows, <FEATURES>], but got shape {list(x.shape)}")
    return x.astype(np.float64)


<ENCODE># The command --------------------------------------------------------------------------------------------------


def main(arguments):
    """Print a prediction for each row of a table."""
<ARGUMENTS>    try:
        rows = <FUNCTION>(read(*arguments))
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(f"error: {error}")
    print_row = csv.writer(sys.stdout, lineterminator="\\n").writerow
<PRINT>

def read_cells(path):
    """The rows of a table as lists of cells, which are separated by commas, semicolons or tabs."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        delimiter = max(",;\\t", key=file.readline().count)
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        rows = [row for row in reader if len(row) > 1 or "".join(row).strip()]
    for count, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise ValueError(f"{path}: row {count} has {len(row)} cells, but the first has {len(rows[0])}")
    return [[cell.strip(" \\t") for cell in row] for row in rows]


<READ># What was learned in training ---------------------------------------------------------------------------------

<WEIGHTS>


def _layers(flat):
    """The matrix [in, out] and the bias [out] of each layer, from one array."""
    for n, m in zip(SIZES[:-1], SIZES[1:]):
        yield flat[: n * m].reshape(n, m), flat[n * m : (n + 1) * m]
        flat = flat[(n + 1) * m :]


<LAYERS>

if __name__ == "__main__":
    main(sys.argv[1:])
'''

PREDICT_CLASS = '''\
def predict(rows):
    """The most probable class of each row."""
    return CLASSES[predict_proba(rows).argmax(axis=1)]


'''

ARGUMENTS = """\
    proba = "--proba" in arguments
    arguments = [argument for argument in arguments if argument != "--proba"]
    if len(arguments) != 1:
        sys.exit(f"usage: python {sys.argv[0]} TABLE.csv [--proba]")
"""

PRINT = """\
    print_row(["prediction", *(f"p({name})" for name in CLASSES if proba)])
    for row in rows:
        print_row([CLASSES[row.argmax()], *(f"{p:.6f}" for p in row if proba)])
"""

ARGUMENT = """\
    if len(arguments) != 1:
        sys.exit(f"usage: python {sys.argv[0]} TABLE.csv")
"""

PRINT_NUMBERS = """\
    print_row(OUTPUTS)
    for row in rows.reshape(len(rows), -1):
        print_row([f"{value:.10g}" for value in row])
"""

SOFTMAX = '''\
def softmax(logits):
    """Probabilities from logits, [rows, classes]; with the classes first, since NumPy sums these faster."""
    z = np.ascontiguousarray(logits.T)
    exp = np.exp(z - z.max(axis=0))
    return np.ascontiguousarray((exp / exp.sum(axis=0)).T)


'''

ENCODE = '''\
# Columns as features ------------------------------------------------------------------------------------------


def encode(columns):
    """The features of columns by name, [rows, <FEATURES>]; other columns are ignored."""
    parts = []
    for name, kind, *how in COLUMNS:
        if name not in columns:
            raise ValueError(f"no column is named {name!r}")
        cells = columns[name].to_numpy() if hasattr(columns[name], "to_numpy") else columns[name]
        cells = [plain(cell) for cell in cells]
        if len(cells) != len(parts[0] if parts else cells):
            raise ValueError(f"column {name!r} has {len(cells)} rows, but the columns before have {len(parts[0])}")
        value = days if kind == "date" else number
        try:
            x = one_hot(cells, *how) if kind == "text" else filled([value(cell) for cell in cells], *how)
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from None
        parts.append(x)
    return features(np.concatenate(parts, axis=1))


def plain(cell):
    """A cell as a float or as text; None where it is missing."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return None
    if isinstance(cell, str):
        return None if cell in MISSING else str(cell)
    if isinstance(cell, np.datetime64):
        return None if np.isnat(cell) else str(cell.astype("datetime64[s]"))
    if isinstance(cell, (bool, np.bool_, datetime.date)):
        return str(cell)
    return None if np.isnan(float(cell)) else float(cell)


def level(cell):
    """A cell as the text of a category; a whole number is written without a point."""
    return cell if not isinstance(cell, float) else str(int(cell)) if cell.is_integer() else str(cell)


def one_hot(cells, levels, rare, missing):
    """A feature for each level, one for the rare ones, one for missing cells; all are 0 for any other text."""
    place = {level: i for i, level in enumerate(levels)} | dict.fromkeys(rare, len(levels))
    width = len(levels) + bool(rare) + missing
    if missing:
        place[None] = width - 1
    x = np.zeros((len(cells), width))
    for row, cell in enumerate(map(level, cells)):
        if cell in place:
            x[row, place[cell]] = 1
    return x


def filled(values, median, indicator):
    """Numbers, with the median where they are missing, and a feature that says so where training needed one."""
    missing = np.isnan(values)
    x = np.where(missing, median, values)
    return np.stack([x, missing], axis=1) if indicator else x[:, None]


def days(cell):
    """The date in a cell in days since 1970-01-01, NaN where it is missing."""
    if cell is None:
        return np.nan
    if not re.fullmatch(DATE, str(cell)):
        raise ValueError(f"expected a date such as 2024-12-31, but got {cell!r}")
    moment = datetime.datetime.fromisoformat(cell)
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return (moment - datetime.datetime(1970, 1, 1)).total_seconds() / 86400.0


'''

NUMBER = '''\
def number(cell):
    """The number in a cell, NaN where it is missing."""
    if cell is None or (isinstance(cell, str) and cell.strip() in MISSING):
        return np.nan
    if (isinstance(cell, str) and not re.fullmatch(NUMBER, cell.strip())) or np.isinf(float(cell)):
        raise ValueError(f"expected a number, but got {cell!r}")
    return float(cell)


'''

READ_NAMED = '''\
def read(path):
    """The columns of a table by the names in its first row."""
    header, *rows = read_cells(path) or [[]]
    names = [name or f"column {i}" for i, name in enumerate(header, 1)]
    if not rows or len(set(names)) < len(names):
        raise ValueError(f"{path} has no rows" if not rows else f"{path}: two columns have the same name")
    return dict(zip(names, zip(*rows)))


'''

READ_UNNAMED = '''\
def read(path):
    """The columns of a table without a header, as in training, by their positions; it may lack the one to predict."""
    rows = read_cells(path) or [[]]
    names = NAMES if len(rows[0]) == len(NAMES) else [str(i + 1) for i in range(len(rows[0]))]
    if len(names) not in (len(NAMES), len(NAMES) + 1):
        raise ValueError(f"{path}: expected {len(NAMES)} columns, but got {len(names)}")
    return dict(zip(names, zip(*rows)))


'''

READ_ARRAY = '''\
def read(path):
    """The features in a table of numbers, [rows, <FEATURES>]; a first row of names, or of 0, 1, 2, ..., is a header."""
    first, *rows = read_cells(path) or [[]]
    if any(re.fullmatch(NUMBER, cell) for cell in first) and first != [str(i) for i in range(len(first))]:
        rows = [first, *rows]
    if not rows:
        raise ValueError(f"{path} has no rows")
    return np.array([[number(cell) for cell in row] for row in rows])


'''

INSIDE = '''\
MEAN = np.array([  # of the features, before they are standardized
<MEAN>])
STD = np.array([
<STD>])
WEIGHTS = np.frombuffer(zlib.decompress(base64.b64decode("""
<TEXT>
""")), "<TYPE>").reshape<SHAPE>'''

BESIDE = """\
DIGEST = "<DIGEST>"
with np.load(pathlib.Path(__file__).with_name(<FILE>), allow_pickle=False) as arrays:
    MEAN, STD, WEIGHTS = (arrays[name] for name in ("mean", "std", "weights"))
if hashlib.sha256(MEAN.tobytes() + STD.tobytes() + WEIGHTS.tobytes()).hexdigest() != DIGEST:
    raise ValueError("the weights beside this file are not its own")"""

NUMBER_PATTERN = r'NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)'
DATE_PATTERN = r'DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)'
LAYERS = "LAYERS = list(_layers(WEIGHTS[0]))\n"
NETWORKS = "NETWORKS = [list(_layers(flat)) for flat in WEIGHTS]\n"

"""What values of a cell are shown as, besides what IPython does by itself.

=================  ====================  =============================================
value              MIME type             content
=================  ====================  =============================================
pandas DataFrame   e2b/data              {column: [values]}, dates as ISO 8601, no NaN
matplotlib figure  e2b/chart             what e2b-charts reads out of it
list, dict         application/json      the value itself
=================  ====================  =============================================

A type is left out when the value has no such form, or more than ``MAX_ITEMS`` values: then the text, HTML or
picture of it is all there is. Nothing here imports pandas or matplotlib before the user does.
"""

import datetime
import math
import sys

from IPython.core.formatters import BaseFormatter, JSONFormatter
from traitlets import ObjectName, Unicode

# About 20 MB of JSON; the interpreter takes no message over 64 MiB.
MAX_ITEMS = 1_000_000


class NotPlain(Exception):
    """The value has no JSON form, or too many parts."""


class Plainer:
    """Turns values into what JSON knows, counting them."""

    def __init__(self):
        self.left = MAX_ITEMS

    def __call__(self, value):
        self.left -= 1
        if self.left < 0:
            raise NotPlain
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, dict):
            return {self.key(key): self(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self(item) for item in value]
        if isinstance(value, (datetime.date, datetime.time)):
            return value.isoformat() if value == value else None  # NaT is not itself
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            if isinstance(value, numpy.datetime64):
                return None if numpy.isnat(value) else str(value)
            if isinstance(value, numpy.ndarray):
                return self(value.tolist())
            if isinstance(value, numpy.generic):
                plain = value.item()
                if not isinstance(plain, numpy.generic):
                    return self(plain)
        raise NotPlain

    def key(self, key):
        return key if isinstance(key, str) else str(key)


def plain(value):
    """The value for JSON, or None when it has no such form."""
    try:
        return Plainer()(value)
    except (NotPlain, RecursionError):
        return None


def columns(frame):
    """A DataFrame as lists by column. Values without a JSON form are shown as text."""
    if frame.size > MAX_ITEMS:
        return None
    pandas = sys.modules["pandas"]

    def cell(value):
        if pandas.api.types.is_scalar(value) and pandas.isna(value):
            return None
        shown = plain(value)
        return str(value) if shown is None else shown

    names = [str(name) for name in frame.columns]
    return {name: [cell(value) for value in frame.iloc[:, at]] for at, name in enumerate(names)}


class DataFormatter(BaseFormatter):
    """e2b/data."""

    format_type = Unicode("e2b/data")
    print_method = ObjectName("_repr_e2b_data_")
    _return_type = (dict, str)


class ChartFormatter(BaseFormatter):
    """e2b/chart. A class of its own, as the inline backend takes figures out of all registered types."""

    format_type = Unicode("e2b/chart")
    print_method = ObjectName("_repr_e2b_chart_")
    _return_type = (dict, str)

    def __call__(self, value):
        figures = sys.modules.get("matplotlib.figure")
        if figures is None or not isinstance(value, figures.Figure):
            return super().__call__(value)
        try:
            from e2b_charts import chart_figure_to_dict

            chart = chart_figure_to_dict(value)
        except Exception:
            # It reads the insides of figures: whatever it stumbles over, the picture is shown.
            return None
        return plain(chart) or None


class ValueFormatter(JSONFormatter):
    """application/json, also for plain lists and dicts."""

    def __call__(self, value):
        if isinstance(value, (list, dict)):
            shown = plain(value)
            if shown is not None:
                return shown, {"expanded": True}
        return super().__call__(value)


def load_ipython_extension(shell):
    """Called by IPython when a kernel starts."""
    formatters = shell.display_formatter.formatters
    data = DataFormatter(parent=shell.display_formatter)
    for module in ("pandas", "pandas.core.frame"):
        data.for_type_by_name(module, "DataFrame", columns)
    for formatter in (data, ChartFormatter(parent=shell.display_formatter)):
        formatters[formatter.format_type] = formatter
    formatters["application/json"] = ValueFormatter(parent=shell.display_formatter)

"""Types of fields that the people's routes share."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"

AccountName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Label = Annotated[str, StringConstraints(max_length=128, pattern=PRINTABLE)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
NewPassword = Annotated[str, StringConstraints(min_length=12, max_length=1024)]
Code = Annotated[str, StringConstraints(max_length=16)]
Search = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PRINTABLE)]

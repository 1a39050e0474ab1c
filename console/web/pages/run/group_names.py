"""Parameters that name a group. A name may hold any character."""

from typing import Annotated

from pydantic import ConfigDict, StringConstraints

from console.web.route import Parameters

LONGEST_NAME = 500


class GroupName(Parameters):
    """The name of a group."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME)]

"""When the clocks of a zone show a time of day."""

from datetime import UTC, date, datetime, time, tzinfo


def shown_at(day: date, clock: time, zone: tzinfo | None) -> list[datetime]:
    """Return when (UTC) the clocks of a zone, or of this machine, show a time of a day: twice when they go back.

    A time that they skip is as long after the midnight as it says.
    """
    wall = datetime.combine(day, clock)
    folds = [wall.replace(fold=fold, tzinfo=zone).astimezone(UTC) for fold in (0, 1)]
    return sorted(set(folds)) if folds[0] <= folds[1] else folds[:1]

"""Texts of moments, days, times and durations from whole numbers of any size."""

from __future__ import annotations

DAY_SECONDS = 86_400


def date_text(day: int) -> str:
    """Return the date of a day from 1970, in the proleptic Gregorian calendar; the year 0 is the one before 1.

    https://howardhinnant.github.io/date_algorithms.html#civil_from_days

    >>> date_text(0), date_text(-719529), date_text(2**31 - 1)
    ('1970-01-01', '-0001-12-31', '5881580-07-11')
    """
    era, day_of_era = divmod(day + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    month = shifted_month + (3 if shifted_month < 10 else -9)
    year = year_of_era + era * 400 + (month <= 2)
    sign = "-" if year < 0 else ""
    return f"{sign}{abs(year):04d}-{month:02d}-{day_of_year - (153 * shifted_month + 2) // 5 + 1:02d}"


def time_text(value: int, unit: int) -> str:
    """Return the time of day, `unit` parts of a second each; one outside of a day, such as 24:00, as it is.

    >>> time_text(86_400, 1), time_text(-1500, 1000)
    ('24:00:00', '-00:00:01.500000')
    """
    seconds, part = divmod(abs(value), unit)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{'-' if value < 0 else ''}{hour:02d}:{minute:02d}:{second:02d}{_fraction(part, unit)}"


def moment_text(value: int, unit: int) -> str:
    """Write a timestamp without a zone.

    >>> moment_text(2**63 - 1, 10**6)
    '294247-01-10T04:00:54.775807'
    """
    day, rest = divmod(value, DAY_SECONDS * unit)
    return f"{date_text(day)}T{time_text(rest, unit)}"


def duration_text(value: int, unit: int) -> str:
    """Write days and smaller units, the sign in front. ISO 8601 §5.5.2.

    >>> duration_text(-(2**63), 10**9)
    '-P106751DT23H47M16.854775808S'
    """
    seconds, part = divmod(abs(value), unit)
    days, seconds = divmod(seconds, DAY_SECONDS)
    hours, minutes, second = seconds // 3600, seconds // 60 % 60, seconds % 60
    fraction = f"{part * 10**9 // unit:09d}".rstrip("0")
    clock = "".join([f"{number}{name}" for number, name in ((hours, "H"), (minutes, "M")) if number])
    if second or fraction or not (clock or days):
        clock += f"{second}{'.' if fraction else ''}{fraction}S"
    return f"{'-' if value < 0 else ''}P{f'{days}D' if days else ''}{'T' if clock else ''}{clock}"


def _fraction(part: int, unit: int) -> str:
    """Write no digits, six, or nine."""
    digits = f"{part * 10**9 // unit:09d}"
    return f".{digits.removesuffix('000')}" if part else ""

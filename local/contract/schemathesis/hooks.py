"""What the document cannot say, told to schemathesis."""

import json

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    """An event on each line."""
    events = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(event) for event in events).encode()


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Whether it is one. OpenAPI has no words for rules between parameters, nor for those below; all else stays a failure."""
    if "json" not in "".join(response.headers.get("content-type", [])):
        return True
    problem = json.loads(response.content or b"null")
    if isinstance(failure, RejectedPositiveData):
        return not is_rightly_refused(case, problem)
    if isinstance(failure, AcceptedNegativeData) and response.status_code == 207:
        # A batch with an event that is wrong and one that is right.
        return problem["rejected"] == 0
    return True


def is_rightly_refused(case, problem):
    kind = problem["type"].removeprefix("urn:forebay:problem:")
    asked = case.query or {}
    has = lambda *names: any(name in asked for name in names)
    if kind == "unknown_parameter":
        return case.path == "/events" and not has("id") and has("partition", "offset", "wait_ms")
    if kind == "bad_parameter":
        lists_values = "dimension" in asked and "value" not in asked
        return (
            has("partition") != has("offset")
            or has("from") != has("to")
            or (has("hours") and has("from", "to"))
            or (has("value") and not has("dimension"))
            or (has("limit") and not lists_values)
            or (lists_values and has("interval", "timezone"))
            or (case.path == "/events" and (has("next") or has("dimension") != has("value")))
        )
    if kind == "out_of_bounds":
        # Beginning and end of the range together: their order, their distance, and the years.
        return has("from") and has("to") and problem["detail"].startswith(("from must be", "the range must be"))
    if kind == "unknown_timezone":
        return True
    if kind == "schema_violation":
        return all(is_beyond_json_schema(error) for error in problem["errors"])
    if kind == "all_rejected":
        return all(is_rightly_refused(case, item["problem"]) for item in problem["items"])
    return False


def is_beyond_json_schema(error):
    # A number that a double cannot hold, in an event without an id: its hash would be that of another number.
    if error["rule"] == "exactNumber":
        return True
    # To JSON Schema 1.0 is an integer; to CloudEvents (JSON format 1.0.2, section 2.2) it is none.
    return error["message"] in ("value is not an integer of 32 bits", "value is not a positive integer")

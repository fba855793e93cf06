"""What the clients here expect of an answer."""

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def expect(condition, what):
    if not condition:
        raise SystemExit(f"not so: {what}")


def refused(call, code, reason, **arguments):
    """Makes a call that must fail so, and returns its other details."""
    try:
        call(**arguments)
    except grpc.RpcError as error:
        expect(error.code() == code, f"{error.code()} {error.details()} should be {code}")
        status = rpc_status.from_call(error)
        infos, rest = [], []
        for detail in status.details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo()
                detail.Unpack(info)
                infos.append(info)
            else:
                rest.append(detail)
        expect(len(infos) == 1, f"exactly one ErrorInfo in {status}")
        expect(infos[0].domain == "episoded", f"domain of {infos[0]}")
        expect(infos[0].reason == reason, f"reason of {infos[0]} is {reason}")
        return rest
    raise SystemExit(f"answered, and should have been refused with {reason}")


def bad_fields(details):
    """The fields that a refusal names."""
    fields = set()
    for detail in details:
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            fields |= {violation.field for violation in bad.field_violations}
    return fields

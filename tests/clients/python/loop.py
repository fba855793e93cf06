"""A session's whole life through grpcio, with no channel option set.

loop.py OPERATOR_SOCK SESSION_SOCK SESSION_ID, with the generated stubs on
PYTHONPATH. Prints "ok" when every step answered what it must.
"""

import sys

import grpc
from answers import bad_fields, expect, refused
from episoded.session.v1 import session_pb2 as pb
from episoded.session.v1 import session_pb2_grpc
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main():
    operator_path, session_path, session_id = sys.argv[1:]
    operator_channel = grpc.insecure_channel(f"unix:{operator_path}")
    session_channel = grpc.insecure_channel(f"unix:{session_path}")
    operator = session_pb2_grpc.SessionServiceStub(operator_channel)
    own = session_pb2_grpc.SessionServiceStub(session_channel)

    for channel in (operator_channel, session_channel):
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        expect(health.status == health_pb2.HealthCheckResponse.SERVING, "health is SERVING")

    services = set(ProtoReflectionDescriptorDatabase(operator_channel).get_services())
    expect("episoded.session.v1.SessionService" in services, f"reflection lists the service in {services}")

    work_id = f"work-{session_id}"
    registration = pb.RegisterSessionRequest(
        work_id=work_id,
        role=pb.ROLE_IMPLEMENTER,
        session_id=session_id,
        labels={"client": "python"},
        ttl=duration_pb2.Duration(seconds=600),
        request_id=f"request-{session_id}",
    )
    registered = operator.RegisterSession(registration)
    session, handle = registered.session, registered.session.ephemeral_handle
    expect(session.session_id == session_id, "the id asked for")
    expect(session.status == pb.SESSION_STATUS_ACTIVE, "registered ACTIVE")
    expect(session.HasField("expire_time"), "a ttl gives an expire_time")
    expect(handle.startswith("H-"), "the form of the handle")

    got = operator.GetSession(pb.GetSessionRequest(session_id=session_id)).session
    expect(got.labels["client"] == "python" and got.role == pb.ROLE_IMPLEMENTER, "what was registered is read")
    expect(got.ephemeral_handle == "", "a handle is shown once")
    by_work = operator.LookupSession(pb.LookupSessionRequest(work_id=work_id)).session
    expect(by_work.session_id == session_id, "found by work id")

    bearer = (("authorization", f"Bearer {handle}"),)
    mine = own.LookupSession(pb.LookupSessionRequest(own=True), metadata=bearer).session
    expect(mine.session_id == session_id, "found by handle")
    counters = pb.Counters(tool_calls=3, tokens=70)
    beat = own.HeartbeatSession(pb.HeartbeatSessionRequest(counters=counters), metadata=bearer)
    expect(beat.status == pb.SESSION_STATUS_ACTIVE and not beat.stop_requested, "heartbeat answers ACTIVE")
    refused(
        own.GetSession,
        grpc.StatusCode.PERMISSION_DENIED,
        "OPERATOR_ONLY",
        request=pb.GetSessionRequest(session_id=session_id),
        metadata=bearer,
    )

    page_token, listed = "", []
    while True:
        page = operator.ListSessions(pb.ListSessionsRequest(page_size=2, page_token=page_token))
        listed += [item.session_id for item in page.sessions]
        page_token = page.next_page_token
        if not page_token:
            break
    expect(listed.count(session_id) == 1, f"listed once in {listed}")

    events = operator.WatchSessions(
        pb.WatchSessionsRequest(
            after_revision=registered.revision,
            filter=pb.WatchFilter(session_id=session_id),
        )
    )
    ended = operator.TerminateSession(
        pb.TerminateSessionRequest(
            session_id=session_id,
            reason=pb.TERMINATION_REASON_NORMAL,
            exit_classification=pb.EXIT_CLASSIFICATION_SUCCESS,
            exit_code=0,
        )
    )
    expect(ended.session.status == pb.SESSION_STATUS_TERMINATED and not ended.already_terminated, "ended by this call")
    kinds = []
    while pb.EVENT_KIND_TERMINATED not in kinds:
        answer = next(events)
        kinds += [event.kind for event in answer.events]
        expect(all(event.session.session_id == session_id for event in answer.events), "only what was asked for")
    events.cancel()

    for channel in (own, operator):
        refused(
            channel.LookupSession,
            grpc.StatusCode.UNAUTHENTICATED,
            "HANDLE_NOT_ACCEPTED",
            request=pb.LookupSessionRequest(own=True),
            metadata=bearer,
        )
    record = operator.GetSession(pb.GetSessionRequest(session_id=session_id)).session
    expect(record.status == pb.SESSION_STATUS_TERMINATED, "status is TERMINATED")
    expect(record.termination.rationale == "normal" and record.termination.exit_code == 0, "the record is kept")
    expect(record.termination.counters.tool_calls == 3, "the record keeps the counters")

    details = refused(
        operator.RegisterSession,
        grpc.StatusCode.INVALID_ARGUMENT,
        "MALFORMED_MESSAGE",
        request=pb.RegisterSessionRequest(capability_manifest_hash=b"short"),
    )
    fields = bad_fields(details)
    expect({"work_id", "role", "capability_manifest_hash"} <= fields, f"each bad field is named in {fields}")
    print("ok")


main()

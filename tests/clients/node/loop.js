// A session's whole life through @grpc/grpc-js, with no channel option set.
//
// loop.js PROTO_DIR OPERATOR_SOCK SESSION_SOCK SESSION_ID, with NODE_PATH set to
// the installed packages. Prints "ok" when every step answered what it must.
'use strict';

const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const HEALTH = `
syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse {
  enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
  ServingStatus status = 1;
}
service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
`;

const RPC = `
syntax = "proto3";
package google.rpc;
message Any { string type_url = 1; bytes value = 2; }
message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
message BadRequest {
  message FieldViolation { string field = 1; string description = 2; }
  repeated FieldViolation field_violations = 1;
}
`;

const rpc = protobuf.parse(RPC, { keepCase: true }).root;
const OPTIONS = { keepCase: true, enums: String, longs: String, oneofs: true, arrays: true };

function expect(condition, what) {
  if (!condition) {
    throw new Error(`not so: ${what}`);
  }
}

/** A unary call as a promise. */
function call(client, method, request, metadata = new grpc.Metadata()) {
  return new Promise((resolve, reject) => {
    client[method](request, metadata, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** The details of a failed call, by type, decoded. */
function details(error) {
  const [encoded] = error.metadata.get('grpc-status-details-bin');
  expect(encoded, `no details in: ${error.message}`);
  return rpc.lookupType('google.rpc.Status').decode(encoded).details.map((any) => {
    const type = any.type_url.split('/').pop();
    const known = ['google.rpc.ErrorInfo', 'google.rpc.BadRequest'].includes(type);
    return { type, value: known ? rpc.lookupType(type).decode(any.value) : undefined };
  });
}

/** Makes a call that must fail so, and returns its details. */
async function refused(promise, code, reason) {
  try {
    await promise;
  } catch (error) {
    expect(error.code === code, `code ${error.code} should be ${code}: ${error.message}`);
    const found = details(error);
    const infos = found.filter((detail) => detail.type === 'google.rpc.ErrorInfo');
    expect(infos.length === 1, `exactly one ErrorInfo in ${JSON.stringify(found)}`);
    expect(infos[0].value.domain === 'episoded', 'the domain is episoded');
    expect(infos[0].value.reason === reason, `${infos[0].value.reason} should be ${reason}`);
    return found;
  }
  throw new Error(`answered, and should have been refused with ${reason}`);
}

async function main() {
  const [protoDir, operatorPath, sessionPath, sessionId] = process.argv.slice(2);
  const definition = loader.loadSync('episoded/session/v1/session.proto', { ...OPTIONS, includeDirs: [protoDir] });
  const { SessionService } = grpc.loadPackageDefinition(definition).episoded.session.v1;
  const healthJson = protobuf.parse(HEALTH, { keepCase: true }).root.toJSON();
  const { Health } = grpc.loadPackageDefinition(loader.fromJSON(healthJson, OPTIONS)).grpc.health.v1;
  const insecure = grpc.credentials.createInsecure();
  const operator = new SessionService(`unix:${operatorPath}`, insecure);
  const own = new SessionService(`unix:${sessionPath}`, insecure);

  for (const path of [operatorPath, sessionPath]) {
    const health = await call(new Health(`unix:${path}`, insecure), 'Check', {});
    expect(health.status === 'SERVING', 'health is SERVING');
  }

  const workId = `work-${sessionId}`;
  const registered = await call(operator, 'RegisterSession', {
    work_id: workId,
    role: 'ROLE_IMPLEMENTER',
    session_id: sessionId,
    labels: { client: 'node' },
    ttl: { seconds: 600 },
    request_id: `request-${sessionId}`,
  });
  const handle = registered.session.ephemeral_handle;
  expect(registered.session.session_id === sessionId, 'the id asked for');
  expect(registered.session.status === 'SESSION_STATUS_ACTIVE', 'registered ACTIVE');
  expect(registered.session.expire_time, 'a ttl gives an expire_time');
  expect(handle.startsWith('H-'), 'the form of the handle');

  const got = (await call(operator, 'GetSession', { session_id: sessionId })).session;
  expect(got.labels.client === 'node' && got.role === 'ROLE_IMPLEMENTER', 'what was registered is read');
  expect(!got.ephemeral_handle, 'a handle is shown once');
  const byWork = (await call(operator, 'LookupSession', { work_id: workId })).session;
  expect(byWork.session_id === sessionId, 'found by work id');

  const bearer = new grpc.Metadata();
  bearer.set('authorization', `Bearer ${handle}`);
  const mine = (await call(own, 'LookupSession', { own: true }, bearer)).session;
  expect(mine.session_id === sessionId, 'found by handle');
  const beat = await call(own, 'HeartbeatSession', { counters: { tool_calls: 3, tokens: 70 } }, bearer);
  expect(beat.status === 'SESSION_STATUS_ACTIVE' && !beat.stop_requested, 'heartbeat answers ACTIVE');
  await refused(
    call(own, 'GetSession', { session_id: sessionId }, bearer),
    grpc.status.PERMISSION_DENIED,
    'OPERATOR_ONLY',
  );

  const listed = [];
  let page = { next_page_token: '' };
  do {
    page = await call(operator, 'ListSessions', { page_size: 2, page_token: page.next_page_token });
    listed.push(...page.sessions.map((session) => session.session_id));
  } while (page.next_page_token);
  expect(listed.filter((id) => id === sessionId).length === 1, `listed once in ${listed}`);

  const events = operator.WatchSessions({
    after_revision: registered.revision,
    filter: { session_id: sessionId },
  });
  const seen = new Promise((resolve, reject) => {
    events.on('data', (answer) => {
      if (answer.events.some((event) => event.session.session_id !== sessionId)) {
        reject(new Error('not so: only what was asked for'));
      } else if (answer.events.some((event) => event.kind === 'EVENT_KIND_TERMINATED')) {
        resolve();
      }
    });
    events.on('error', reject);
    events.on('end', () => reject(new Error('the watch ended')));
  });
  const ended = await call(operator, 'TerminateSession', {
    session_id: sessionId,
    reason: 'TERMINATION_REASON_NORMAL',
    exit_classification: 'EXIT_CLASSIFICATION_SUCCESS',
    exit_code: 0,
  });
  expect(ended.session.status === 'SESSION_STATUS_TERMINATED' && !ended.already_terminated, 'ended by this call');
  await seen;
  events.removeAllListeners('error').on('error', () => {});
  events.cancel();

  for (const client of [own, operator]) {
    const dead = call(client, 'LookupSession', { own: true }, bearer);
    await refused(dead, grpc.status.UNAUTHENTICATED, 'HANDLE_NOT_ACCEPTED');
  }
  const record = (await call(operator, 'GetSession', { session_id: sessionId })).session;
  expect(record.status === 'SESSION_STATUS_TERMINATED', 'status is TERMINATED');
  expect(record.termination.rationale === 'normal' && record.termination.exit_code === 0, 'the record is kept');
  expect(record.termination.counters.tool_calls === '3', 'the record keeps the counters');

  const found = await refused(
    call(operator, 'RegisterSession', { capability_manifest_hash: Buffer.from('short') }),
    grpc.status.INVALID_ARGUMENT,
    'MALFORMED_MESSAGE',
  );
  const bad = found.filter((detail) => detail.type === 'google.rpc.BadRequest');
  const fields = bad.flatMap((detail) => detail.value.field_violations.map((violation) => violation.field));
  for (const field of ['work_id', 'role', 'capability_manifest_hash']) {
    expect(fields.includes(field), `${field} is named in ${fields}`);
  }
  console.log('ok');
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error.message);
    process.exit(1);
  },
);

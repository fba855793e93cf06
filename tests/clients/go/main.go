// A session's whole life through grpc-go, with no channel option set.
//
// loop PROTO_DIR OPERATOR_SOCK SESSION_SOCK SESSION_ID. The messages are built
// from the .proto files at run time. Prints "ok" when every step answered what
// it must.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

func expect(condition bool, format string, arguments ...any) {
	if !condition {
		fmt.Fprintf(os.Stderr, "not so: "+format+"\n", arguments...)
		os.Exit(1)
	}
}

func must[T any](value T, err error) T {
	expect(err == nil, "%v", err)
	return value
}

// client calls the session service of one socket with requests and answers in
// protojson.
type client struct {
	channel *grpc.ClientConn
	service protoreflect.ServiceDescriptor
}

func dial(path string, service protoreflect.ServiceDescriptor) client {
	channel := must(grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials())))
	return client{channel, service}
}

func (c client) messages(method, request string) (string, *dynamicpb.Message, *dynamicpb.Message) {
	descriptor := c.service.Methods().ByName(protoreflect.Name(method))
	in := dynamicpb.NewMessage(descriptor.Input())
	expect(protojson.Unmarshal([]byte(request), in) == nil, "%s is a %s", request, descriptor.Input().FullName())
	path := fmt.Sprintf("/%s/%s", c.service.FullName(), method)
	return path, in, dynamicpb.NewMessage(descriptor.Output())
}

func (c client) try(ctx context.Context, method, request string) (message, error) {
	path, in, out := c.messages(method, request)
	err := c.channel.Invoke(ctx, path, in, out)
	return message{out}, err
}

func (c client) call(ctx context.Context, method, request string) message {
	answer, err := c.try(ctx, method, request)
	expect(err == nil, "%s: %v", method, err)
	return answer
}

// refused makes a call that must fail so, and returns its details.
func (c client) refused(ctx context.Context, code codes.Code, reason, method, request string) []any {
	_, err := c.try(ctx, method, request)
	failed, _ := status.FromError(err)
	expect(failed.Code() == code, "%s: %v should be %v", method, err, code)
	var reasons []string
	for _, detail := range failed.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			expect(info.Domain == "episoded", "domain of %v", info)
			reasons = append(reasons, info.Reason)
		}
	}
	expect(slices.Equal(reasons, []string{reason}), "%s: reasons %v should be %s", method, reasons, reason)
	return failed.Details()
}

// message reads a dynamic message by field names.
type message struct{ protoreflect.Message }

func (m message) value(field string) protoreflect.Value {
	descriptor := m.Descriptor().Fields().ByName(protoreflect.Name(field))
	expect(descriptor != nil, "%s has a field %s", m.Descriptor().FullName(), field)
	return m.Get(descriptor)
}

func (m message) has(field string) bool {
	return m.Has(m.Descriptor().Fields().ByName(protoreflect.Name(field)))
}

func (m message) sub(field string) message { return message{m.value(field).Message()} }
func (m message) text(field string) string { return m.value(field).String() }

func (m message) enum(field string) string {
	descriptor := m.Descriptor().Fields().ByName(protoreflect.Name(field))
	return string(descriptor.Enum().Values().ByNumber(m.value(field).Enum()).Name())
}

func (m message) each(field string, visit func(message)) {
	list := m.value(field).List()
	for i := range list.Len() {
		visit(message{list.Get(i).Message()})
	}
}

func main() {
	protoDir, operatorPath, sessionPath, id := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	ctx := context.Background()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(
		&protocompile.SourceResolver{ImportPaths: []string{protoDir}})}
	files := must(compiler.Compile(ctx, "episoded/session/v1/session.proto"))
	service := files[0].Services().ByName("SessionService")
	operator, own := dial(operatorPath, service), dial(sessionPath, service)

	for _, socket := range []client{operator, own} {
		health := must(grpc_health_v1.NewHealthClient(socket.channel).Check(ctx, &grpc_health_v1.HealthCheckRequest{}))
		expect(health.Status == grpc_health_v1.HealthCheckResponse_SERVING, "health is SERVING")
	}

	revision, handle := register(ctx, operator, id)
	bearer := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+handle)
	live(ctx, bearer, operator, own, id)
	terminate(ctx, operator, id, revision)

	for _, socket := range []client{own, operator} {
		socket.refused(bearer, codes.Unauthenticated, "HANDLE_NOT_ACCEPTED", "LookupSession", `{"own": true}`)
	}
	record := operator.call(ctx, "GetSession", `{"session_id": "`+id+`"}`).sub("session")
	expect(record.enum("status") == "SESSION_STATUS_TERMINATED", "status is TERMINATED")
	ended := record.sub("termination")
	expect(ended.text("rationale") == "normal" && ended.has("exit_code"), "the record is kept: %v", ended)
	expect(ended.sub("counters").value("tool_calls").Uint() == 3, "the record keeps the counters")

	var fields []string
	for _, detail := range operator.refused(ctx, codes.InvalidArgument, "MALFORMED_MESSAGE",
		"RegisterSession", `{"capability_manifest_hash": "c2hvcnQ="}`) {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, violation := range bad.FieldViolations {
				fields = append(fields, violation.Field)
			}
		}
	}
	for _, field := range []string{"work_id", "role", "capability_manifest_hash"} {
		expect(slices.Contains(fields, field), "%s is named in %v", field, fields)
	}
	fmt.Println("ok")
}

// register answers the revision of the registration and the handle.
func register(ctx context.Context, operator client, id string) (uint64, string) {
	registered := operator.call(ctx, "RegisterSession", `{
		"work_id": "work-`+id+`", "role": "ROLE_IMPLEMENTER", "session_id": "`+id+`",
		"labels": {"client": "go"}, "ttl": "600s", "request_id": "request-`+id+`"}`)
	session := registered.sub("session")
	handle := session.text("ephemeral_handle")
	expect(session.text("session_id") == id, "the id asked for")
	expect(session.enum("status") == "SESSION_STATUS_ACTIVE", "registered ACTIVE")
	expect(session.has("expire_time"), "a ttl gives an expire_time")
	expect(strings.HasPrefix(handle, "H-"), "the form of the handle")

	got := operator.call(ctx, "GetSession", `{"session_id": "`+id+`"}`).sub("session")
	label := got.value("labels").Map().Get(protoreflect.ValueOfString("client").MapKey())
	expect(label.String() == "go" && got.enum("role") == "ROLE_IMPLEMENTER", "what was registered is read")
	expect(!got.has("ephemeral_handle"), "a handle is shown once")
	return registered.value("revision").Uint(), handle
}

// live does what an episode and its operator do while the session lives.
func live(ctx, bearer context.Context, operator, own client, id string) {
	byWork := operator.call(ctx, "LookupSession", `{"work_id": "work-`+id+`"}`).sub("session")
	expect(byWork.text("session_id") == id, "found by work id")
	mine := own.call(bearer, "LookupSession", `{"own": true}`).sub("session")
	expect(mine.text("session_id") == id, "found by handle")
	beat := own.call(bearer, "HeartbeatSession", `{"counters": {"tool_calls": 3, "tokens": 70}}`)
	expect(beat.enum("status") == "SESSION_STATUS_ACTIVE", "heartbeat answers ACTIVE")
	own.refused(bearer, codes.PermissionDenied, "OPERATOR_ONLY", "GetSession", `{"session_id": "`+id+`"}`)

	token, listed := "", 0
	for {
		page := operator.call(ctx, "ListSessions", `{"page_size": 2, "page_token": "`+token+`"}`)
		page.each("sessions", func(session message) {
			if session.text("session_id") == id {
				listed++
			}
		})
		if token = page.text("next_page_token"); token == "" {
			break
		}
	}
	expect(listed == 1, "listed once, not %d times", listed)
}

// terminate ends the session and waits until a watch says so.
func terminate(ctx context.Context, operator client, id string, after uint64) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	path, request, _ := operator.messages("WatchSessions", fmt.Sprintf(
		`{"after_revision": %d, "filter": {"session_id": "%s"}}`, after, id))
	events := must(operator.channel.NewStream(watching, &grpc.StreamDesc{ServerStreams: true}, path))
	expect(events.SendMsg(request) == nil && events.CloseSend() == nil, "the watch starts")

	ended := operator.call(ctx, "TerminateSession", `{"session_id": "`+id+`", "reason": "TERMINATION_REASON_NORMAL",
		"exit_classification": "EXIT_CLASSIFICATION_SUCCESS", "exit_code": 0}`)
	expect(ended.sub("session").enum("status") == "SESSION_STATUS_TERMINATED", "ended by this call")
	for seen := false; !seen; {
		_, _, answer := operator.messages("WatchSessions", `{}`)
		err := events.RecvMsg(answer)
		expect(err == nil, "the watch goes on: %v", err)
		message{answer}.each("events", func(event message) {
			expect(event.sub("session").text("session_id") == id, "only what was asked for")
			seen = seen || event.enum("kind") == "EVENT_KIND_TERMINATED"
		})
	}
}

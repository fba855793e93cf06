//! The gRPC door: the same keys as LBX2 has, sealed on their way.

use std::os::unix::net::UnixStream as Plain;
use std::time::Duration;

use episoded::client::keycache::{Keep, KeyCache};
use episoded::client::{ClientError, Stream};
use episoded::keycache::channel::{Agreement, Channel, Way};
use episoded::keycache::entry::LockboxId;
use episoded::proto::keycache::key_cache_service_client::KeyCacheServiceClient;
use episoded::proto::keycache::watch_cache_response::Event;
use episoded::proto::keycache::{self as pb, forget_key_request::Which};
use episoded::reason::Reason;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Endpoint;
use tonic_types::StatusExt as _;

use super::agent::Agent;
use super::scan::{self, Found, Needle};
use super::wire::{Answer, MAGIC};
use super::{HANG, unique};
use crate::harness::{need_root, need_tool, within};

const SECOND: prost_types::Duration = prost_types::Duration {
    seconds: 1,
    nanos: 0,
};

type Service = KeyCacheServiceClient<tonic::transport::Channel>;

async fn cache(agent: &Agent) -> KeyCache {
    let cache = KeyCache::connect(agent.place().socket()).await;
    cache.expect("it accepts").with_timeout(HANG)
}

/// A client that makes every mistake it is told to.
struct Bare {
    service: Service,
    channel: Channel,
    channel_id: u32,
}

async fn connect(agent: &Agent) -> Service {
    let socket = agent.place().socket();
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await;
    KeyCacheServiceClient::new(channel.expect("it accepts"))
}

impl Bare {
    async fn new(agent: &Agent) -> Self {
        let mut service = connect(agent).await;
        let agreement = Agreement::new().unwrap();
        let request = pb::OpenChannelRequest {
            client_public_key: agreement.public().to_vec(),
        };
        let answer = service.open_channel(request).await.unwrap().into_inner();
        Self {
            service,
            channel: agreement.as_client(&answer.server_public_key).unwrap(),
            channel_id: answer.channel_id,
        }
    }

    /// A put of which everything is right.
    fn put(&self, id: &str, key: &[u8]) -> pb::PutKeyRequest {
        let parsed = LockboxId::parse(id).unwrap();
        let sealed = self.channel.seal(Way::Put, &parsed, key).unwrap();
        pb::PutKeyRequest {
            channel_id: self.channel_id,
            counter: sealed.counter,
            sealed_key: sealed.bytes,
            lockbox_id: id.to_owned(),
            ..Default::default()
        }
    }

    async fn send(&mut self, request: pb::PutKeyRequest) -> Result<(), Refused> {
        let answer = self.service.put_key(request).await;
        answer.map(drop).map_err(|status| refused(&status))
    }
}

/// Makes a put wrong.
type Spoil = fn(&mut pb::PutKeyRequest);

/// The reason, and the fields that were named.
type Refused = (String, Vec<String>);

fn refused(status: &Status) -> Refused {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{status:?}"));
    let named = details.bad_request().into_iter();
    let fields = named.flat_map(|bad| &bad.field_violations);
    let fields = fields.map(|violation| violation.field.clone()).collect();
    (info.reason.clone(), fields)
}

fn reason(error: &ClientError) -> Reason {
    error.reason.unwrap_or_else(|| panic!("{error:?}"))
}

#[tokio::test]
async fn lbx2_and_grpc_share_entries() {
    let agent = Agent::start();
    let cache = cache(&agent).await;
    let mut lbx2 = agent.client();
    let (one, two) = (unique(32), unique(65_536));
    cache.put("one", "/p", &one, Keep::default()).await.unwrap();
    assert_eq!(lbx2.get("one"), Answer::Key(one.clone()));
    lbx2.keep("two", &two);
    assert_eq!(cache.get("two").await.unwrap().unwrap()[..], two);
    assert_eq!(cache.get("three").await.unwrap(), None);
    let listed = lbx2.list();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!(cache.forget("two").await.unwrap(), 1);
    assert_eq!(lbx2.get("two"), Answer::Miss);
    assert_eq!(lbx2.forget("one"), Answer::Ok);
    assert_eq!(cache.get("one").await.unwrap(), None);
}

/// Raw, in hex, in base64: nowhere, but for the one copy of the cache where that can
/// be read at all. While the client that put it is still connected, too.
#[tokio::test]
async fn a_key_leaves_nothing_in_the_transport() {
    if !need_root() {
        return;
    }
    for kind in ["", "secret_memory = false\n"] {
        let agent = Agent::configured(kind);
        for length in [32, 4_000, 65_536] {
            let cache = cache(&agent).await;
            let key = unique(length);
            let needle = Needle::new(&key[length - 32..]);
            // After each step: the next may write over what the last has left.
            let once = |after: &str| {
                let scan = scan::memory(agent.pid(), &needle);
                let copies = usize::from(!scan.secret);
                assert_eq!(scan.found.raw, copies, "{length} {after}: {scan:?}");
                assert_eq!((scan.found.hex, scan.found.base64), (0, 0), "{scan:?}");
            };
            cache.put("id", "", &key, Keep::default()).await.unwrap();
            once("put");
            for _ in 0..3 {
                assert_eq!(cache.get("id").await.unwrap().unwrap()[..], key);
                once("get");
            }
            assert_eq!(cache.forget("id").await.unwrap(), 1);
            let scan = scan::memory(agent.pid(), &needle);
            assert_eq!(scan.found, Found::NOTHING, "{length}: {scan:?}");
            let written = scan::files(agent.place().root(), &needle);
            assert_eq!(written, Found::NOTHING);
        }
    }
}

/// The control: what travels in clear is found where the transport had it.
#[tokio::test]
async fn what_is_sent_in_clear_is_found() {
    if !need_root() {
        return;
    }
    let agent = Agent::start();
    let cache = cache(&agent).await;
    let text = String::from_utf8(scan::hex(&unique(32))).expect("digits are text");
    let needle = Needle::new(text.as_bytes());
    cache
        .put("id", &text, b"key", Keep::default())
        .await
        .unwrap();
    let scan = scan::memory(agent.pid(), &needle);
    assert!(scan.found.raw > 0, "{scan:?}");
}

#[tokio::test]
async fn every_bad_field_is_named_and_nothing_is_kept() {
    let agent = Agent::start();
    let mut bare = Bare::new(&agent).await;
    let duration = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let malformed = |field: &str| ("MALFORMED_MESSAGE".to_owned(), vec![field.to_owned()]);
    let invalid = |field: &str| ("INVALID_TTL".to_owned(), vec![field.to_owned()]);
    let spoils: [(Spoil, Refused); 8] = [
        (|put| put.lockbox_id.clear(), malformed("lockbox_id")),
        (
            |put| put.lockbox_id = "x".repeat(1_025),
            malformed("lockbox_id"),
        ),
        (
            |put| put.lockbox_id = "other".into(),
            malformed("sealed_key"),
        ),
        (|put| put.path = "x".repeat(4_097), malformed("path")),
        (|put| put.sealed_key.truncate(16), malformed("sealed_key")),
        (|put| put.sealed_key[0] ^= 1, malformed("sealed_key")),
        (|put| put.counter += 1, malformed("sealed_key")),
        (|put| put.expiry = 9, malformed("expiry")),
    ];
    for (at, (spoil, expected)) in spoils.into_iter().enumerate() {
        let mut put = bare.put("id", b"key");
        spoil(&mut put);
        assert_eq!(bare.send(put).await, Err(expected), "{at}");
    }
    for ttl in [
        duration(0, 0),
        duration(-1, 0),
        duration(1, -1),
        duration(1, 1_000_000_000),
        duration(i64::MAX, 0),
        duration(18_446_744_073_709_551, 0),
    ] {
        let put = pb::PutKeyRequest {
            ttl,
            ..bare.put("id", b"key")
        };
        assert_eq!(bare.send(put).await, Err(invalid("ttl")), "{ttl:?}");
    }
    let put = pb::PutKeyRequest {
        max_lifetime: duration(-1, 0),
        ..bare.put("id", b"key")
    };
    assert_eq!(bare.send(put).await, Err(invalid("max_lifetime")));
    let put = pb::PutKeyRequest {
        ttl: duration(0, 0),
        lockbox_id: String::new(),
        ..bare.put("id", b"key")
    };
    let (code, fields) = bare.send(put).await.unwrap_err();
    assert_eq!(code, "MALFORMED_MESSAGE");
    assert_eq!(fields, ["lockbox_id", "ttl"]);
    let long = bare.put("id", &unique(65_537));
    assert_eq!(bare.send(long).await, Err(malformed("sealed_key")));
    assert_eq!(agent.client().list(), []);
}

#[tokio::test]
async fn a_sealed_key_is_taken_once_and_on_its_own_channel() {
    let agent = Agent::start();
    let (mut one, mut two) = (Bare::new(&agent).await, Bare::new(&agent).await);
    let put = one.put("id", b"key");
    assert_eq!(
        two.send(put.clone()).await.unwrap_err().0,
        "MALFORMED_MESSAGE"
    );
    assert_eq!(one.send(put.clone()).await, Ok(()));
    assert_eq!(one.send(put).await.unwrap_err().0, "MALFORMED_MESSAGE");
    for channel_id in [0, 2, u32::MAX] {
        let put = pb::PutKeyRequest {
            channel_id,
            ..one.put("id", b"key")
        };
        assert_eq!(one.send(put).await.unwrap_err().0, "CHANNEL_UNKNOWN");
        let get = pb::GetKeyRequest {
            channel_id,
            lockbox_id: "id".into(),
            ..pb::GetKeyRequest::default()
        };
        let status = one.service.get_key(get).await.unwrap_err();
        assert_eq!(refused(&status).0, "CHANNEL_UNKNOWN");
    }
    for bad in [vec![0; 32], vec![1; 31], Vec::new()] {
        let request = pb::OpenChannelRequest {
            client_public_key: bad,
        };
        let status = one.service.open_channel(request).await.unwrap_err();
        let named = vec!["client_public_key".to_owned()];
        assert_eq!(refused(&status), ("MALFORMED_MESSAGE".into(), named));
    }
    let open = || pb::OpenChannelRequest {
        client_public_key: Agreement::new().unwrap().public().to_vec(),
    };
    for _ in 1..16 {
        one.service.open_channel(open()).await.unwrap();
    }
    let status = one.service.open_channel(open()).await.unwrap_err();
    assert_eq!(refused(&status).0, "RATE_LIMITED");
}

#[tokio::test]
async fn a_first_get_opens_its_channel() {
    let agent = Agent::start();
    agent.client().keep("id", b"key");
    let mut service = connect(&agent).await;
    let get = |lockbox_id: &str, client_public_key: &[u8], channel_id| pb::GetKeyRequest {
        lockbox_id: lockbox_id.to_owned(),
        client_public_key: client_public_key.to_vec(),
        channel_id,
    };
    for (lockbox_id, key, channel_id, named) in [
        ("id", &[0; 32][..], 0, "client_public_key"),
        ("id", &[1; 31], 0, "client_public_key"),
        ("id", &[9; 32], 1, "channel_id"),
        ("", &[9; 32], 0, "lockbox_id"),
    ] {
        let request = get(lockbox_id, key, channel_id);
        let status = service.get_key(request).await.unwrap_err();
        let wanted = ("MALFORMED_MESSAGE".into(), vec![named.to_owned()]);
        assert_eq!(refused(&status), wanted);
    }
    // On a hit and on a miss; what was refused has opened none.
    for (lockbox_id, wanted) in [("id", Some(b"key")), ("other", None)] {
        let agreement = Agreement::new().unwrap();
        let request = get(lockbox_id, &agreement.public(), 0);
        let answer = service.get_key(request).await.unwrap().into_inner();
        let channel = agreement.as_client(&answer.server_public_key).unwrap();
        let number = if wanted.is_some() { 1 } else { 2 };
        assert_eq!((answer.channel_id, answer.hit), (number, wanted.is_some()));
        let request = get("id", &[], answer.channel_id);
        let again = service.get_key(request).await.unwrap().into_inner();
        let id = LockboxId::parse("id").unwrap();
        for answer in wanted.map(|_| answer).into_iter().chain([again]) {
            let (mut key, sealed) = ([0; 3], &answer.sealed_key);
            let opened = channel.open(Way::Get, &id, answer.counter, sealed, &mut key);
            opened.unwrap();
            assert_eq!(&key, b"key");
        }
    }
    for _ in 2..16 {
        service.get_key(get("id", &[9; 32], 0)).await.unwrap();
    }
    let status = service.get_key(get("id", &[9; 32], 0)).await.unwrap_err();
    assert_eq!(refused(&status).0, "RATE_LIMITED");
}

/// All that is listed, in pages of that size.
pub async fn pages(agent: &Agent, page_size: u32) -> Vec<pb::CachedKey> {
    let (mut service, mut all) = (connect(agent).await, Vec::new());
    let mut page_token = String::new();
    loop {
        let request = pb::ListKeysRequest {
            page_size,
            page_token,
        };
        let page = service.list_keys(request).await.unwrap().into_inner();
        assert!(page.keys.len() <= page_size as usize);
        all.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

/// As it was put by clients that know nothing of a longest life.
#[tokio::test]
async fn a_ttl_of_a_day_is_a_day() {
    let agent = Agent::start();
    let (day, keep) = (86_400, Keep::default());
    agent.client().put("lbx2", b"key", "", day as u64);
    let cache = cache(&agent).await;
    let ttl = Some(prost_types::Duration {
        seconds: day,
        nanos: 0,
    });
    cache
        .put("grpc", "", b"key", Keep { ttl, ..keep })
        .await
        .unwrap();
    for key in cache.list().await.unwrap() {
        let remaining = key.remaining.expect("it ends").seconds;
        assert!((day - 60..=day).contains(&remaining), "{key:?}");
    }
}

#[test]
fn health_and_reflection_are_served_to_grpcurl() {
    let Some(grpcurl) = need_tool("grpcurl/v1.9.4/grpcurl") else {
        return;
    };
    let agent = Agent::start();
    let socket = format!("unix://{}", agent.place().socket().display());
    let ask = |options: &[&str], what: &str| {
        let mut grpcurl = std::process::Command::new(&grpcurl);
        let asked = grpcurl.arg("-plaintext").args(options);
        let output = asked.args([&socket, what]).output().expect("it starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("it is text")
    };
    let services = ask(&[], "list");
    let own = "episoded.keycache.v1.KeyCacheService";
    assert!(services.lines().any(|service| service == own), "{services}");
    for service in ["", own] {
        let asked = format!("{{\"service\": \"{service}\"}}");
        let answer = ask(&["-d", &asked], "grpc.health.v1.Health/Check");
        assert!(answer.contains("\"SERVING\""), "{service}: {answer}");
    }
}

/// So that nobody can open what a buffer still holds.
#[tokio::test]
async fn channels_end_when_all_keys_are_forgotten_and_clients_go_on() {
    let agent = Agent::start();
    let (mut bare, cache) = (Bare::new(&agent).await, cache(&agent).await);
    cache.put("id", "", b"key", Keep::default()).await.unwrap();
    let put = bare.put("other", b"key");
    agent.client().forget_all();
    assert_eq!(bare.send(put).await.unwrap_err().0, "CHANNEL_UNKNOWN");
    let open = pb::OpenChannelRequest {
        client_public_key: Agreement::new().unwrap().public().to_vec(),
    };
    let opened = bare.service.open_channel(open).await.unwrap().into_inner();
    assert_eq!(opened.channel_id, 2, "no number comes twice");
    assert_eq!(cache.get("id").await.unwrap(), None);
    cache.put("id", "", b"key", Keep::default()).await.unwrap();
    agent.client().forget_all();
    cache
        .put("id", "", b"again", Keep::default())
        .await
        .unwrap();
    assert_eq!(cache.get("id").await.unwrap().unwrap()[..], *b"again");
}

#[tokio::test]
async fn a_client_outlives_its_agent() {
    let agent = Agent::start();
    let cache = cache(&agent).await;
    cache.put("id", "", b"key", Keep::default()).await.unwrap();
    let place = agent.killed();
    let _agent = Agent::at(place);
    let mut last = None;
    // The first call may find that the old connection broke.
    for _ in 0..100 {
        last = Some(cache.get("id").await);
        if matches!(last, Some(Ok(_))) {
            break;
        }
    }
    assert_eq!(last.unwrap().unwrap(), None, "its keys died with it");
    cache.put("id", "", b"new", Keep::default()).await.unwrap();
    assert_eq!(cache.get("id").await.unwrap().unwrap()[..], b"new"[..]);
}

#[tokio::test]
async fn a_list_has_pages_and_counts_uses_and_prolongs_nothing() {
    let agent = Agent::start();
    let cache = cache(&agent).await;
    let keep = Keep {
        ttl: Some(prost_types::Duration {
            seconds: 100,
            nanos: 0,
        }),
        absolute: true,
        max_lifetime: None,
    };
    for id in ["c", "a", "b"] {
        cache.put(id, "/p", b"key", keep).await.unwrap();
    }
    cache.get("b").await.unwrap();
    let mut service = connect(&agent).await;
    let mut page = async |page_token: &str| {
        let page_token = page_token.to_owned();
        let request = pb::ListKeysRequest {
            page_size: 2,
            page_token,
        };
        service.list_keys(request).await
    };
    let first = page("").await.unwrap().into_inner();
    let ids = |page: &pb::ListKeysResponse| -> Vec<String> {
        page.keys.iter().map(|key| key.lockbox_id.clone()).collect()
    };
    assert_eq!(ids(&first), ["a", "b"]);
    let uses: Vec<u64> = first.keys.iter().map(|key| key.hits).collect();
    assert_eq!(uses, [0, 1]);
    assert_eq!(first.keys[0].path, "/p");
    assert_eq!(first.keys[0].expiry(), pb::Expiry::Absolute);
    assert!(first.keys[0].create_time.is_some());
    let second = page(&first.next_page_token).await.unwrap().into_inner();
    assert_eq!(ids(&second), ["c"]);
    assert_eq!(second.next_page_token, "");
    for bad in ["x", "zz", "ff"] {
        let status = page(bad).await.unwrap_err();
        assert_eq!(refused(&status).0, "INVALID_PAGE_TOKEN", "{bad}");
    }
    let remaining = |keys: &[pb::CachedKey]| keys[0].remaining.unwrap();
    let before = remaining(&cache.list().await.unwrap());
    let began = Instant::now();
    loop {
        let after = remaining(&cache.list().await.unwrap());
        let (after, before) = ((after.seconds, after.nanos), (before.seconds, before.nanos));
        assert!(after <= before, "a list prolongs nothing");
        if after < before {
            break;
        }
        assert!(began.elapsed() < HANG, "its time passes");
    }
}

#[tokio::test]
async fn forget_goes_by_id_or_path_and_by_nothing_else() {
    let agent = Agent::start();
    let cache = cache(&agent).await;
    for (id, path) in [("a", "/x"), ("b", "/x"), ("c", "/y"), ("d", "")] {
        cache.put(id, path, b"key", Keep::default()).await.unwrap();
    }
    assert_eq!(cache.forget_path("/x").await.unwrap(), 2);
    assert_eq!(cache.forget_path("/x").await.unwrap(), 0);
    assert_eq!(cache.forget("c").await.unwrap(), 1);
    assert_eq!(cache.forget("c").await.unwrap(), 0);
    let mut service = connect(&agent).await;
    for (which, session_id) in [
        (None, ""),
        (Some(Which::Path(String::new())), ""),
        (Some(Which::Path("/y".to_owned())), "session"),
    ] {
        let request = pb::ForgetKeyRequest {
            which,
            session_id: session_id.to_owned(),
        };
        let status = service.forget_key(request).await;
        let named = vec!["which".to_owned()];
        let status = status.unwrap_err();
        assert_eq!(refused(&status), ("MALFORMED_MESSAGE".into(), named));
    }
    assert_eq!(agent.client().list(), [("d".into(), String::new())]);
    assert_eq!(cache.forget_all().await.unwrap(), 1);
}

pub async fn next(events: &mut Stream<pb::WatchCacheResponse>) -> Event {
    let told = within(events.next()).await.unwrap();
    told.and_then(|told| told.event).expect("it goes on")
}

#[tokio::test]
async fn a_watch_tells_what_happens_to_keys_and_why() {
    let agent = Agent::start();
    let cache = cache(&agent).await;
    cache
        .put("before", "", b"key", Keep::default())
        .await
        .unwrap();
    let mut events = cache.watch().await.unwrap();
    assert_eq!(next(&mut events).await, Event::Begun(pb::Begun {}));
    let short = Keep {
        ttl: Some(SECOND),
        ..Keep::default()
    };
    cache.put("short", "", b"key", short).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Stored("short".into()));
    agent.client().forget("before");
    assert_eq!(next(&mut events).await, Event::Forgotten("before".into()));
    assert_eq!(next(&mut events).await, Event::Expired("short".into()));
    cache.put("id", "", b"key", Keep::default()).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Stored("id".into()));
    agent.signal(Signal::USR1);
    let Event::Wiped(wipe) = next(&mut events).await else {
        panic!("it tells of something else");
    };
    assert_eq!((&*wipe.why, wipe.forgotten), ("a signal", 1));
    let status = cache.status().await.unwrap();
    assert_eq!(status.last_wipe, Some(wipe));
    cache.stop().await.unwrap();
    assert!(matches!(next(&mut events).await, Event::Wiped(wipe) if wipe.forgotten == 0));
    let end = within(events.next()).await.unwrap_err();
    assert_eq!(reason(&end), Reason::ShuttingDown);
}

#[tokio::test]
async fn status_says_what_it_is_and_holds() {
    let agent = Agent::configured("idle_exit = \"300s\"\n");
    let cache = cache(&agent).await;
    cache.put("id", "", b"key", Keep::default()).await.unwrap();
    let status = cache.status().await.unwrap();
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(u32::try_from(status.pid), Ok(agent.pid()));
    assert_eq!((status.entries, status.activities), (1, 0));
    assert!(status.locked_bytes >= 4_096, "{status:?}");
    assert!(
        ["memfd_secret", "mlock"].contains(&&*status.memory),
        "{status:?}"
    );
    assert_eq!(status.idle_exit.map(|limit| limit.seconds), Some(300));
    assert_eq!(status.last_wipe, None);
}

#[tokio::test]
async fn an_activity_is_listed_until_its_owner_ends_it() {
    let agent = Agent::start();
    let mut service = connect(&agent).await;
    let own = i32::try_from(std::process::id()).unwrap();
    let register = |pid, kind| pb::RegisterActivityRequest { pid, kind };
    for (pid, kind, expected) in [
        (0, 2, "MALFORMED_MESSAGE"),
        (-1, 2, "MALFORMED_MESSAGE"),
        (own, 0, "MALFORMED_MESSAGE"),
        (own, 7, "MALFORMED_MESSAGE"),
        (1, 2, "PROCESS_NOT_FOUND"),
        (i32::MAX, 2, "PROCESS_NOT_FOUND"),
    ] {
        let status = service.register_activity(register(pid, kind)).await;
        assert_eq!(refused(&status.unwrap_err()).0, expected, "{pid} {kind}");
    }
    let answer = service.register_activity(register(own, 2)).await;
    let token = answer.unwrap().into_inner().token;
    assert_ne!(token, 0);
    for (pid, other) in [(own, token ^ 1), (1, token), (-1, token)] {
        let request = pb::UnregisterActivityRequest { pid, token: other };
        service.unregister_activity(request).await.unwrap();
    }
    let listed = service.list_activities(pb::ListActivitiesRequest {}).await;
    let activities = listed.unwrap().into_inner().activities;
    assert_eq!(activities.len(), 1);
    assert_eq!((activities[0].pid, activities[0].kind), (own, 2));
    let request = pb::UnregisterActivityRequest { pid: own, token };
    service.unregister_activity(request).await.unwrap();
    let listed = service.list_activities(pb::ListActivitiesRequest {}).await;
    assert_eq!(listed.unwrap().into_inner().activities, []);
}

#[tokio::test]
async fn a_stop_is_answered_though_others_watch_and_wait() {
    let mut agent = Agent::start();
    let cache = cache(&agent).await;
    let mut watch = cache.watch().await.unwrap();
    next(&mut watch).await;
    let _silent = agent.client();
    let _half = Plain::connect(agent.place().socket()).unwrap();
    let began = Instant::now();
    cache.stop().await.unwrap();
    assert_eq!(agent.exited(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert!(!agent.place().socket().exists());
}

/// A client that begins as HTTP/2 does and stops anywhere delays nobody; what only
/// looks like it at first is told so in LBX2.
#[tokio::test]
async fn the_first_bytes_of_a_connection_decide() {
    let agent = Agent::start();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut silent = Vec::new();
    for length in 1..preface.len() {
        let mut client = agent.client();
        client.send(&preface[..length]);
        silent.push(client);
    }
    let cache = cache(&agent).await;
    cache.put("id", "", b"key", Keep::default()).await.unwrap();
    for first in [b"PRIx", b"PUT ", b"GET ", b"P\0\0\0"] {
        let mut client = agent.client();
        client.send(first);
        let Answer::Error(message) = client.answer() else {
            panic!("{first:?} is answered with something else");
        };
        assert!(message.starts_with("malformed"), "{message}");
    }
    let mut later = agent.client();
    assert_eq!(later.get("id"), Answer::Key(b"key".to_vec()));
    later.send(b"PRI ");
    assert!(matches!(later.answer(), Answer::Error(_)), "only at first");
    assert_eq!(MAGIC.len(), 4);
}

#[tokio::test]
async fn garbage_behind_the_preface_neither_hangs_nor_ends_it() {
    let mut agent = Agent::start();
    agent.client().keep("id", b"key");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for round in 0..200 {
        let mut client = agent.client();
        let mut garbage = unique(1 + round * 3);
        if round % 2 == 0 {
            // A frame of a length that is there, of any kind.
            let length = u32::try_from(garbage.len()).unwrap().to_be_bytes();
            let head = [
                length[1],
                length[2],
                length[3],
                garbage[0] % 10,
                garbage[0],
                0,
                0,
                0,
                1,
            ];
            garbage = [&head[..], &garbage].concat();
        }
        client.send(&[&preface[..], &garbage].concat());
    }
    assert!(agent.process().runs());
    assert_eq!(agent.client().get("id"), Answer::Key(b"key".to_vec()));
    let cache = cache(&agent).await;
    assert_eq!(cache.get("id").await.unwrap().unwrap()[..], b"key"[..]);
}

/// Small keys overtake large ones that wait for room on the connection; and clients
/// of threads of their own share it.
#[tokio::test(flavor = "multi_thread")]
async fn many_puts_and_gets_at_once_are_all_answered() {
    const MANY: usize = 300;
    let agent = Agent::start();
    let cache = cache(&agent).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..MANY {
        let cache = cache.clone();
        tasks.spawn(async move {
            let id = number.to_string();
            let key = unique(if number % 10 == 0 { 65_536 } else { 32 });
            cache.put(&id, "", &key, Keep::default()).await.unwrap();
            assert_eq!(cache.get(&id).await.unwrap().unwrap()[..], key);
        });
    }
    while let Some(done) = within(tasks.join_next()).await {
        done.expect("each is answered");
    }
    assert_eq!(cache.status().await.unwrap().entries, 300);
}

#[tokio::test]
async fn a_key_that_expired_is_told_before_its_successor() {
    let agent = Agent::start();
    let cache = cache(&agent).await;
    let mut events = cache.watch().await.unwrap();
    next(&mut events).await;
    let short = Keep {
        ttl: Some(prost_types::Duration {
            seconds: 0,
            nanos: 20_000_000,
        }),
        ..Keep::default()
    };
    for asks in [true, false] {
        cache.put("id", "", b"key", short).await.unwrap();
        assert_eq!(next(&mut events).await, Event::Stored("id".into()));
        let began = Instant::now();
        // A list does not show what is over, and ends nothing.
        while !cache.list().await.unwrap().is_empty() {
            assert!(began.elapsed() < HANG, "its time passes");
        }
        if asks {
            assert_eq!(cache.get("id").await.unwrap(), None);
        }
        cache.put("id", "", b"key", Keep::default()).await.unwrap();
        assert_eq!(next(&mut events).await, Event::Expired("id".into()));
        assert_eq!(next(&mut events).await, Event::Stored("id".into()));
    }
}

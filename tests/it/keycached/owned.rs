//! Keys that belong to episodes: who gets them, and what ends them. With a real
//! episoded beside a real keycached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use episoded::client::keycache::{Keep, KeyCache};
use episoded::client::{ClientError, Handle};
use episoded::clock::{Clock as _, SystemClock};
use episoded::proto::keycache::{self as pb, watch_cache_response::Event};
use episoded::proto::session::{self as sessions, register_session_request::Deadline};
use episoded::reason::Reason;
use prost_types::Timestamp;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::agent::{Agent, Place};
use super::bus::Bus;
use super::rpc::{next, pages};
use super::scan::{self, Found, Needle};
use super::wire::Answer;
use super::{HANG, PAUSE, unique};
use crate::harness::{Daemon, need_root, normal_end, register, registration, within};

/// How long a session may still have its keys once its watch is lost.
const TRUSTED: Duration = Duration::from_secs(5);

/// An agent that asks that daemon.
pub fn agent_of(daemon: &Daemon, settings: &str) -> Agent {
    Agent::at(place_of(daemon, settings))
}

fn place_of(daemon: &Daemon, settings: &str) -> Place {
    Place::configured(settings).with("EPISODED_RUNTIME_DIR", daemon.dirs().runtime().into())
}

async fn cache(agent: &Agent) -> KeyCache {
    let cache = KeyCache::connect(agent.place().socket()).await;
    cache.expect("it accepts").with_timeout(HANG)
}

/// A session and its handle.
struct Episode {
    id: String,
    handle: String,
}

/// A registration under a name that may come again.
fn named() -> sessions::RegisterSessionRequest {
    sessions::RegisterSessionRequest {
        session_id: "named".to_owned(),
        ..registration("w")
    }
}

impl Episode {
    async fn new(daemon: &Daemon, work: &str) -> Self {
        Self::of(register(&mut daemon.operator().await, registration(work)).await)
    }

    async fn named(daemon: &Daemon) -> Self {
        Self::of(register(&mut daemon.operator().await, named()).await)
    }

    fn of(session: sessions::Session) -> Self {
        Self {
            id: session.session_id,
            handle: session.ephemeral_handle,
        }
    }

    /// Its own connection to the agent.
    async fn cache(&self, agent: &Agent) -> KeyCache {
        let handle = Handle::parse(&self.handle).expect("it is one");
        cache(agent).await.with_handle(handle)
    }

    fn owner(&self) -> pb::Owner {
        pb::Owner {
            session_id: self.id.clone(),
            expire_time: Some(in_seconds(3_600)),
            max_uses: 0,
        }
    }

    async fn end(&self, daemon: &Daemon) {
        let request = normal_end(&self.id);
        let ended = daemon.operator().await.terminate_session(request).await;
        ended.expect("it ends");
    }
}

fn in_seconds(seconds: i64) -> Timestamp {
    let clock = SystemClock::new().expect("the clock is read");
    let now = clock.now().wall / 1_000;
    Timestamp {
        seconds: now as i64 + seconds,
        nanos: 0,
    }
}

fn reason(error: &ClientError) -> Reason {
    error.reason.unwrap_or_else(|| panic!("{error:?}"))
}

async fn taken(cache: &KeyCache, id: &str) -> Option<Vec<u8>> {
    let key = cache.get(id).await.expect("it is answered");
    key.map(|key| key.to_vec())
}

/// Waits until it is so.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < HANG, "{what}: not within {HANG:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn missing(cache: &KeyCache, id: &str) {
    eventually("it is forgotten", async || {
        cache.get(id).await.expect("it is answered").is_none()
    })
    .await;
}

#[tokio::test]
async fn a_key_of_a_session_is_given_to_its_handle_and_to_nobody_else() {
    let daemon = Daemon::start().await;
    let agent = agent_of(&daemon, "");
    let (owner, other) = (
        Episode::new(&daemon, "w").await,
        Episode::new(&daemon, "v").await,
    );
    let human = cache(&agent).await;
    let (given, own) = (unique(32), unique(32));
    human.grant("both", &given, owner.owner()).await.unwrap();
    human.grant("owned", &given, owner.owner()).await.unwrap();
    human.put("both", "", &own, Keep::default()).await.unwrap();
    human.put("own", "", &own, Keep::default()).await.unwrap();

    let episode = owner.cache(&agent).await;
    assert_eq!(taken(&episode, "both").await, Some(given.clone()));
    assert_eq!(taken(&episode, "owned").await, Some(given.clone()));
    assert_eq!(taken(&episode, "own").await, None, "nobody owns it");
    let stranger = other.cache(&agent).await;
    for id in ["both", "owned", "own"] {
        assert_eq!(taken(&stranger, id).await, None, "{id}");
    }
    assert_eq!(taken(&human, "both").await, Some(own.clone()));
    assert_eq!(taken(&human, "owned").await, None, "no handle was shown");
    let mut lbx2 = agent.client();
    assert_eq!(lbx2.get("owned"), Answer::Miss);
    assert_eq!(lbx2.get("both"), Answer::Key(own));
    let listed: Vec<_> = lbx2.list().into_iter().map(|(id, _)| id).collect();
    assert_eq!(listed, ["both", "own"]);
    lbx2.forget("owned");
    assert_eq!(taken(&episode, "owned").await, Some(given));
}

#[tokio::test]
async fn only_a_live_handle_is_accepted_and_for_keys_only() {
    let daemon = Daemon::start().await;
    let agent = agent_of(&daemon, "");
    let episode = Episode::new(&daemon, "w").await;
    cache(&agent)
        .await
        .grant("id", b"key", episode.owner())
        .await
        .unwrap();
    let unknown = Handle::parse("H-0b6c54f0-6b0f-4c3e-9a53-0a6f4de2f0c1").unwrap();
    let unknown = cache(&agent).await.with_handle(unknown);
    let refused = unknown.get("id").await.unwrap_err();
    assert_eq!(reason(&refused), Reason::HandleNotAccepted);
    let own = episode.cache(&agent).await;
    for refused in [
        own.list().await.map(drop),
        own.status().await.map(drop),
        own.forget("id").await.map(drop),
        own.forget_all().await.map(drop),
        own.stop().await,
        own.put("id", "", b"key", Keep::default()).await,
        own.grant("id", b"key", episode.owner()).await,
    ] {
        assert_eq!(reason(&refused.unwrap_err()), Reason::OperatorOnly);
    }
    assert_eq!(taken(&own, "id").await, Some(b"key".to_vec()));
    episode.end(&daemon).await;
    let refused = own.get("id").await.unwrap_err();
    assert_eq!(reason(&refused), Reason::HandleNotAccepted);
}

#[tokio::test]
async fn an_owner_must_live_and_its_time_be_within_a_day() {
    let daemon = Daemon::start().await;
    let agent = agent_of(&daemon, "");
    let (live, over) = (
        Episode::new(&daemon, "w").await,
        Episode::new(&daemon, "v").await,
    );
    over.end(&daemon).await;
    let human = cache(&agent).await;
    let unknown = pb::Owner {
        session_id: "nobody".to_owned(),
        ..live.owner()
    };
    let until = |expire_time| pb::Owner {
        expire_time,
        ..live.owner()
    };
    let nameless = pb::Owner {
        session_id: String::new(),
        ..live.owner()
    };
    for (owner, wanted) in [
        (unknown, Reason::SessionNotFound),
        (over.owner(), Reason::SessionTerminated),
        (until(None), Reason::InvalidTtl),
        (until(Some(in_seconds(-1))), Reason::InvalidTtl),
        (until(Some(in_seconds(24 * 3_600 + 60))), Reason::InvalidTtl),
        (nameless, Reason::MalformedMessage),
    ] {
        let refused = human.grant("id", b"key", owner.clone()).await.unwrap_err();
        assert_eq!(reason(&refused), wanted, "{owner:?}");
    }
    assert_eq!(human.list().await.unwrap(), []);
    assert_eq!(human.status().await.unwrap().owned, 0);
    human
        .grant("id", b"key", until(Some(in_seconds(24 * 3_600 - 60))))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_session_owns_is_listed_with_its_owner_and_what_ends_it_is_told() {
    let daemon = Daemon::start().await;
    let agent = agent_of(&daemon, "");
    let episode = Episode::new(&daemon, "w").await;
    let human = cache(&agent).await;
    let mut events = human.watch().await.unwrap();
    assert!(matches!(next(&mut events).await, Event::Begun(_)));
    let twice = pb::Owner {
        max_uses: 2,
        ..episode.owner()
    };
    human
        .put("plain", "", b"key", Keep::default())
        .await
        .unwrap();
    human.grant("id", b"key", twice).await.unwrap();
    let own = episode.cache(&agent).await;
    assert_eq!(taken(&own, "id").await, Some(b"key".to_vec()));

    let listed = human.list().await.unwrap();
    let ids: Vec<_> = listed.iter().map(|key| &*key.lockbox_id).collect();
    assert_eq!(ids, ["plain", "id"]);
    assert_eq!((&listed[0].owner, listed[1].hits), (&None, 1));
    let owner = listed[1].owner.clone().expect("it has one");
    assert_eq!((&*owner.session_id, owner.max_uses), (&*episode.id, 1));
    assert_eq!(human.status().await.unwrap().owned, 1);

    assert_eq!(taken(&own, "id").await, Some(b"key".to_vec()));
    assert_eq!(taken(&own, "id").await, None);
    human.grant("id", b"key", episode.owner()).await.unwrap();
    assert_eq!(human.revoke("id", "another").await.unwrap(), 0);
    assert_eq!(human.revoke("id", &episode.id).await.unwrap(), 1);
    assert_eq!(taken(&own, "id").await, None);
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(match next(&mut events).await {
            Event::Stored(id) => id,
            Event::Granted(key) => format!("granted {} to {}", key.lockbox_id, key.session_id),
            Event::GrantEnded(end) => end.why,
            other => panic!("{other:?}"),
        });
    }
    let granted = format!("granted id to {}", episode.id);
    let wanted = [
        "plain",
        &granted,
        "its uses were over",
        &granted,
        "it was revoked",
    ];
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn pages_go_from_what_nobody_owns_to_what_sessions_own() {
    let daemon = Daemon::start().await;
    let agent = agent_of(&daemon, "");
    let (one, two) = (
        Episode::new(&daemon, "w").await,
        Episode::new(&daemon, "v").await,
    );
    let human = cache(&agent).await;
    for id in ["a", "b"] {
        human.put(id, "", b"key", Keep::default()).await.unwrap();
        for episode in [&one, &two] {
            human.grant(id, b"key", episode.owner()).await.unwrap();
        }
    }
    let mut sessions = [&*one.id, &*two.id];
    sessions.sort_unstable();
    let wanted = [("a", ""), ("b", "")].into_iter();
    let of_sessions = sessions.iter().flat_map(|id| [("a", *id), ("b", *id)]);
    let wanted: Vec<_> = wanted.chain(of_sessions).collect();
    for size in [1, 2, 3, 6, 7] {
        let all = pages(&agent, size).await;
        let all: Vec<_> = all
            .iter()
            .map(|key| {
                let owner = key.owner.as_ref().map_or("", |owner| &*owner.session_id);
                (&*key.lockbox_id, owner)
            })
            .collect();
        assert_eq!(all, wanted, "pages of {size}");
    }
}

#[tokio::test]
async fn sixty_four_users_of_a_key_for_one_use_have_it_once() {
    let daemon = Daemon::start().await;
    let agent = agent_of(&daemon, "");
    let episode = Episode::new(&daemon, "w").await;
    let once = pb::Owner {
        max_uses: 1,
        ..episode.owner()
    };
    cache(&agent).await.grant("id", b"key", once).await.unwrap();
    assert_eq!(uses(&agent, &episode, || ()).await, 1);
    assert_eq!(taken(&episode.cache(&agent).await, "id").await, None);
}

#[tokio::test]
async fn a_crash_between_the_users_of_a_key_gives_it_to_no_second() {
    let daemon = Daemon::start().await;
    let episode = Episode::new(&daemon, "w").await;
    for _ in 0..4 {
        let mut agent = agent_of(&daemon, "");
        let once = pb::Owner {
            max_uses: 1,
            ..episode.owner()
        };
        let human = cache(&agent).await;
        human.grant("id", b"key", once).await.unwrap();
        let pid = agent.pid();
        let before = uses(&agent, &episode, || kill(pid)).await;
        assert!(before <= 1, "{before} had it");
        agent.process().exited();
        let again = Agent::at(agent.killed());
        assert_eq!(uses(&again, &episode, || ()).await, 0);
        assert_eq!(cache(&again).await.list().await.unwrap(), []);
    }
}

fn kill(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("it is one"), Signal::KILL).expect("it is killed");
}

/// How many of many at once had the key. `meanwhile` is done once half have asked.
async fn uses(agent: &Agent, episode: &Episode, meanwhile: impl FnOnce()) -> usize {
    const USERS: usize = 64;
    let mut users = JoinSet::new();
    let mut caches = Vec::new();
    for _ in 0..USERS {
        caches.push(episode.cache(agent).await);
    }
    let rest = caches.split_off(USERS / 2);
    for cache in caches {
        users.spawn(async move { cache.get("id").await });
    }
    tokio::task::yield_now().await;
    let mut had = usize::from(matches!(users.join_next().await, Some(Ok(Ok(Some(_))))));
    meanwhile();
    for cache in rest {
        users.spawn(async move { cache.get("id").await });
    }
    while let Some(used) = within(users.join_next()).await {
        had += usize::from(matches!(used.expect("it does not panic"), Ok(Some(_))));
    }
    had
}

#[tokio::test]
async fn a_key_ends_with_its_session_and_nothing_of_it_is_left() {
    if !need_root() {
        return;
    }
    let daemon = Daemon::start().await;
    for settings in ["", "secret_memory = false\n"] {
        let agent = agent_of(&daemon, settings);
        let (one, two) = (
            Episode::new(&daemon, "w").await,
            Episode::new(&daemon, "v").await,
        );
        let (key, other) = (unique(32), unique(32));
        let human = cache(&agent).await;
        human.grant("id", &key, one.owner()).await.unwrap();
        human.grant("id", &other, two.owner()).await.unwrap();
        let own = one.cache(&agent).await;
        assert_eq!(taken(&own, "id").await, Some(key.clone()));
        // Episodes and keys share no address space.
        let beside = scan::memory(daemon.running().pid(), &Needle::new(&key));
        assert_eq!(beside.found, Found::NOTHING, "{beside:?}");
        let name = Needle::new(one.id.as_bytes());
        let control = scan::memory(daemon.running().pid(), &name);
        assert!(
            control.found.raw > 0,
            "its own names are found: {control:?}"
        );
        one.end(&daemon).await;
        eventually("it is wiped", async || {
            human.list().await.unwrap().len() == 1
        })
        .await;
        // While all clients are still connected.
        let scan = scan::memory(agent.pid(), &Needle::new(&key));
        assert_eq!(scan.found, Found::NOTHING, "{scan:?}");
        let kept = taken(&two.cache(&agent).await, "id").await;
        assert_eq!(kept, Some(other));
        for root in [agent.place().root(), daemon.dirs().root()] {
            let written = scan::files(root, &Needle::new(&key));
            assert_eq!(written, Found::NOTHING);
        }
        let said = agent.place().said();
        assert!(!said.contains(&one.handle), "{said}");
        two.end(&daemon).await;
    }
}

#[tokio::test]
async fn a_key_ends_with_a_session_that_is_taken_back_evicted_or_over() {
    let daemon = Daemon::builder()
        .args(["--max-sessions", "3"])
        .start()
        .await;
    let agent = agent_of(&daemon, "");
    let human = cache(&agent).await;
    let mut operator = daemon.operator().await;
    let removed = Episode::new(&daemon, "removed").await;
    human
        .grant("removed", b"key", removed.owner())
        .await
        .unwrap();
    let request = sessions::RemoveSessionRequest {
        session_id: removed.id,
        ..Default::default()
    };
    operator.remove_session(request).await.unwrap();
    eventually("it is wiped", async || {
        human.list().await.unwrap().is_empty()
    })
    .await;

    let oldest = Episode::new(&daemon, "oldest").await;
    human
        .grant("evicted", b"key", oldest.owner())
        .await
        .unwrap();
    let brief = sessions::RegisterSessionRequest {
        deadline: Some(Deadline::ExpireTime(in_seconds(2))),
        ..registration("brief")
    };
    let brief = register(&mut operator, brief).await;
    let owner = pb::Owner {
        session_id: brief.session_id,
        ..oldest.owner()
    };
    human.grant("over", b"key", owner).await.unwrap();
    Episode::new(&daemon, "third").await;
    let fourth = sessions::RegisterSessionRequest {
        allow_eviction: true,
        ..registration("fourth")
    };
    register(&mut operator, fourth).await;
    eventually("both are wiped", async || {
        human.list().await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_key_ends_at_its_time_and_no_use_moves_it() {
    let daemon = Daemon::start().await;
    let agent = agent_of(&daemon, "");
    let episode = Episode::new(&daemon, "w").await;
    let brief = pb::Owner {
        expire_time: Some(in_seconds(3)),
        ..episode.owner()
    };
    cache(&agent)
        .await
        .grant("id", b"key", brief)
        .await
        .unwrap();
    let own = episode.cache(&agent).await;
    assert_eq!(taken(&own, "id").await, Some(b"key".to_vec()));
    missing(&own, "id").await;
}

#[tokio::test]
async fn what_forgets_all_forgets_what_sessions_own() {
    let Some(bus) = tokio::task::spawn_blocking(Bus::new).await.unwrap() else {
        return;
    };
    let daemon = Daemon::start().await;
    let address = bus.address();
    let agent = Agent::at(place_of(&daemon, "").with("DBUS_SYSTEM_BUS_ADDRESS", address.into()));
    let episode = Episode::new(&daemon, "w").await;
    let (human, own) = (cache(&agent).await, episode.cache(&agent).await);
    human.grant("id", b"key", episode.owner()).await.unwrap();
    assert_eq!(human.forget_all().await.unwrap(), 1);
    assert_eq!(taken(&own, "id").await, None);
    human.grant("id", b"key", episode.owner()).await.unwrap();
    tokio::task::spawn_blocking(move || {
        super::until("sleep is delayed", HANG, || bus.inhibitors() == ["delay"]);
        bus.sleep(true);
        super::until("it may sleep", HANG, || bus.inhibitors().is_empty());
    })
    .await
    .unwrap();
    assert_eq!(taken(&own, "id").await, None);
}

#[tokio::test]
async fn without_episoded_a_key_is_neither_owned_nor_given() {
    let mut daemon = Daemon::start().await;
    let agent = agent_of(&daemon, "");
    let episode = Episode::new(&daemon, "w").await;
    let (human, own) = (cache(&agent).await, episode.cache(&agent).await);
    human.grant("id", b"key", episode.owner()).await.unwrap();
    daemon.kill9();
    let refused = own.get("id").await.unwrap_err();
    assert_eq!(reason(&refused), Reason::EpisodedUnavailable);
    let other = pb::Owner {
        session_id: "another".to_owned(),
        ..episode.owner()
    };
    let refused = human.grant("id", b"key", other).await.unwrap_err();
    assert_eq!(reason(&refused), Reason::EpisodedUnavailable);
    // The session has survived, and so has what it owns.
    daemon.restart().await;
    eventually("it is given again", async || {
        matches!(own.get("id").await, Ok(Some(_)))
    })
    .await;
}

/// Stands between an agent and operator.sock, and can be cut.
struct Relay {
    directory: PathBuf,
    target: PathBuf,
    relaying: Option<JoinHandle<()>>,
}

impl Relay {
    fn new(directory: &Path, target: PathBuf) -> Self {
        let mut relay = Self {
            directory: directory.to_owned(),
            target,
            relaying: None,
        };
        relay.mend();
        relay
    }

    fn mend(&mut self) {
        let socket = self.directory.join("operator.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).expect("it is bound");
        let target = self.target.clone();
        self.relaying = Some(tokio::spawn(async move {
            let mut pairs = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let target = target.clone();
                pairs.spawn(async move {
                    let mut far = UnixStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        }));
    }

    async fn cut(&mut self) {
        if let Some(relaying) = self.relaying.take() {
            relaying.abort();
            let _ = relaying.await;
        }
    }
}

/// An agent that reaches operator.sock through a relay.
fn relayed(daemon: &Daemon) -> (Agent, Relay) {
    let place = Place::new();
    let near = place.root().join("near");
    std::fs::create_dir(&near).unwrap();
    let relay = Relay::new(&near, daemon.operator_socket());
    let sessions = daemon.session_socket();
    let sessions = sessions.parent().expect("it lies somewhere");
    let place = place
        .with("EPISODED_RUNTIME_DIR", near.into())
        .with("EPISODED_SESSION_DIR", sessions.into());
    (Agent::at(place), relay)
}

#[tokio::test]
async fn a_key_is_refused_while_nobody_can_tell_that_its_session_ends() {
    let daemon = Daemon::start().await;
    let (agent, mut relay) = relayed(&daemon);
    let (one, two) = (
        Episode::new(&daemon, "w").await,
        Episode::new(&daemon, "v").await,
    );
    let human = cache(&agent).await;
    for episode in [&one, &two] {
        human.grant("id", b"key", episode.owner()).await.unwrap();
    }
    let (own, other) = (one.cache(&agent).await, two.cache(&agent).await);
    assert_eq!(taken(&own, "id").await, Some(b"key".to_vec()));

    let cut = Instant::now();
    relay.cut().await;
    eventually("it is refused", async || own.get("id").await.is_err()).await;
    let refused_after = cut.elapsed();
    // A little more for a busy machine.
    let late = TRUSTED + Duration::from_secs(2);
    assert!(
        (TRUSTED..late).contains(&refused_after),
        "{refused_after:?}"
    );
    let refused = own.get("id").await.unwrap_err();
    assert_eq!(reason(&refused), Reason::EpisodedUnavailable);
    // Refused, not forgotten.
    assert_eq!(human.status().await.unwrap().owned, 2);

    two.end(&daemon).await;
    relay.mend();
    eventually("it is given again", async || {
        matches!(own.get("id").await, Ok(Some(_)))
    })
    .await;
    // What ended meanwhile was noticed.
    eventually("it is wiped", async || {
        human.status().await.unwrap().owned == 1
    })
    .await;
    let refused = other.get("id").await.unwrap_err();
    assert_eq!(reason(&refused), Reason::HandleNotAccepted);
}

/// A name may come again where another registry has taken the place of the first.
#[tokio::test]
async fn a_session_of_another_registry_does_not_inherit_by_its_name() {
    let mut daemon = Daemon::start().await;
    let agent = agent_of(&daemon, "");
    let first = Episode::named(&daemon).await;
    let human = cache(&agent).await;
    human.grant("id", b"key", first.owner()).await.unwrap();
    daemon.kill9();
    let state = daemon.dirs().state();
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    super::chmod(&state, 0o700);
    daemon.restart().await;
    let second = Episode::named(&daemon).await;
    assert_eq!(taken(&second.cache(&agent).await, "id").await, None);
    eventually("it is wiped", async || {
        human.list().await.unwrap().is_empty()
    })
    .await;
}

/// Nor where the record of the first was forgotten while nobody watched.
#[tokio::test]
async fn a_later_session_of_the_same_registry_does_not_inherit_by_its_name() {
    let daemon = Daemon::builder()
        .args(["--terminated-ttl", "1s"])
        .start()
        .await;
    let (agent, mut relay) = relayed(&daemon);
    let first = Episode::named(&daemon).await;
    let human = cache(&agent).await;
    human.grant("id", b"key", first.owner()).await.unwrap();
    relay.cut().await;
    first.end(&daemon).await;
    let again = within(async {
        let mut operator = daemon.operator().await;
        loop {
            if let Ok(answer) = operator.register_session(named()).await {
                break Episode::of(answer.into_inner().session.unwrap());
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
    assert_eq!(again.id, first.id);
    assert_eq!(taken(&again.cache(&agent).await, "id").await, None);
    assert_eq!(human.status().await.unwrap().owned, 0, "nobody can have it");
}

#[tokio::test]
async fn an_episoded_that_hangs_is_told_from_an_agent_that_does() {
    let daemon = Daemon::start().await;
    let agent = agent_of(&daemon, "");
    let episode = Episode::new(&daemon, "w").await;
    let (human, own) = (cache(&agent).await, episode.cache(&agent).await);
    human.grant("id", b"key", episode.owner()).await.unwrap();
    daemon.running().freeze();
    for refused in [
        own.get("id").await.map(drop),
        human.grant("id", b"key", episode.owner()).await,
    ] {
        assert_eq!(reason(&refused.unwrap_err()), Reason::EpisodedUnavailable);
    }
    daemon.running().signal(rustix::process::Signal::CONT);
    assert_eq!(taken(&own, "id").await, Some(b"key".to_vec()));
}

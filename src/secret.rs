//! Credentials, and what is kept of them.
//!
//! Owns the types that hold a secret in clear ([`Handle`], [`Lease`]), which are
//! wiped when dropped and never printed, and the keyed digests
//! ([`HandleDigest`], [`LeaseDigest`]) that are all the daemon keeps.
//! Refuses handles that are not `H-` and a lower-case UUID v4.

use std::fmt;

use uuid::Uuid;
use zeroize::Zeroizing;

/// A lease id has at most this many bytes.
pub const MAX_LEASE_BYTES: usize = 256;

/// Bytes of a digest that are kept: as strong as the 122 random bits of a handle.
const DIGEST_BYTES: usize = 16;

/// The bearer credential of a session: `H-{uuid v4}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Handle(Zeroizing<String>);

impl Handle {
    /// Makes a handle of 122 random bits and nothing else.
    pub fn random() -> Self {
        Self(Zeroizing::new(format!(
            "H-{}",
            Uuid::new_v4().as_hyphenated()
        )))
    }

    /// Reads a handle; only the exact form that [`Handle::random`] makes.
    pub fn parse(text: &str) -> Result<Self, NotAHandle> {
        let uuid = text.strip_prefix("H-").ok_or(NotAHandle)?;
        let parsed = Uuid::try_parse(uuid).map_err(|_| NotAHandle)?;
        let mut buffer = Uuid::encode_buffer();
        let canonical = parsed.as_hyphenated().encode_lower(&mut buffer);
        let is_random = parsed.get_version_num() == 4
            && parsed.get_variant() == uuid::Variant::RFC4122
            && canonical == uuid;
        is_random
            .then(|| Self(Zeroizing::new(text.to_owned())))
            .ok_or(NotAHandle)
    }

    /// The secret itself, to hand it over or to digest it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// The text is not a handle. Says nothing about the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAHandle;

impl fmt::Display for NotAHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a handle: want `H-` and a lower-case UUID v4")
    }
}

impl std::error::Error for NotAHandle {}

/// An orchestrator's authority for a session: 1 to 256 bytes.
#[derive(Clone)]
pub struct Lease(Zeroizing<String>);

impl Lease {
    /// Takes a lease id if its length is right.
    pub fn new(text: String) -> Option<Self> {
        let lease = Self(Zeroizing::new(text));
        (!lease.0.is_empty() && lease.0.len() <= MAX_LEASE_BYTES).then_some(lease)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; DIGEST_BYTES]);

        impl $name {
            /// Takes back what [`Self::as_bytes`] gave.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The bytes that may be stored.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// Uniformly distributed bits for a hash table: the digest is keyed.
            pub fn hash_bits(&self) -> u64 {
                let (head, _) = self.0.split_at(8);
                u64::from_le_bytes(head.try_into().expect("a digest is longer than eight bytes"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

digest! {
    /// Keyed digest of a handle.
    HandleDigest
}
digest! {
    /// Keyed digest of a lease.
    LeaseDigest
}

/// The key of all digests: 32 random bytes, kept in a file beside the registry.
#[derive(Clone)]
pub struct DigestKey {
    handles: Zeroizing<[u8; 32]>,
    leases: Zeroizing<[u8; 32]>,
    bodies: Zeroizing<[u8; 32]>,
    fingerprint: [u8; 8],
}

impl DigestKey {
    /// Derives one key for each kind of secret, so that a lease can never pass
    /// for a handle.
    pub fn new(key: &[u8; 32]) -> Self {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, key));
        let print = blake3::derive_key("episoded registry.key fingerprint v1", key);
        Self {
            handles: derive("episoded handle digest v1"),
            leases: derive("episoded lease digest v1"),
            bodies: derive("episoded request digest v1"),
            fingerprint: print[..8].try_into().expect("eight bytes of thirty-two"),
        }
    }

    /// Makes the bytes of a new key.
    pub fn random_bytes() -> Result<Zeroizing<[u8; 32]>, getrandom::Error> {
        let mut key = Zeroizing::new([0_u8; 32]);
        getrandom::fill(key.as_mut_slice())?;
        Ok(key)
    }

    /// Tells keys apart without giving one away.
    pub fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }

    /// Digests a handle that was made here.
    pub fn handle(&self, handle: &Handle) -> HandleDigest {
        self.presented(handle.expose().as_bytes())
    }

    /// Digests whatever was presented as a handle, well-formed or not: every
    /// kind of bad handle takes the same path.
    pub fn presented(&self, bytes: &[u8]) -> HandleDigest {
        HandleDigest(head(&blake3::keyed_hash(&self.handles, bytes)))
    }

    /// Digests the body of a named request, which may hold a secret.
    pub fn body(&self, bytes: &[u8]) -> [u8; 16] {
        head(&blake3::keyed_hash(&self.bodies, bytes))
    }

    /// Digests a lease.
    pub fn lease(&self, lease: &Lease) -> LeaseDigest {
        LeaseDigest(head(&blake3::keyed_hash(&self.leases, lease.0.as_bytes())))
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

fn head(hash: &blake3::Hash) -> [u8; DIGEST_BYTES] {
    let (head, _) = hash.as_bytes().split_at(DIGEST_BYTES);
    head.try_into().expect("a hash is longer than a digest")
}

/// No core file, and no reading by others of our uid, of a process that holds
/// secrets. Children inherit the first.
pub fn forbid_dumps() -> rustix::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let limited = setrlimit(Resource::Core, none);
    set_dumpable_behavior(DumpableBehavior::NotDumpable).and(limited)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{DigestKey, Handle, Lease};

    #[test]
    fn a_hundred_thousand_handles_are_unique_and_of_version_four() {
        let mut seen = HashSet::new();
        for _ in 0..100_000 {
            let handle = Handle::random();
            let text = handle.expose().to_owned();
            assert_eq!(text.len(), 38);
            assert_eq!(text.as_bytes()[16], b'4', "version");
            assert!(b"89ab".contains(&text.as_bytes()[21]), "variant");
            Handle::parse(&text).unwrap();
            assert!(seen.insert(text));
        }
    }

    #[test]
    fn only_the_exact_form_is_a_handle() {
        let good = "H-0b6c54f0-6b0f-4c3e-9a53-0a6f4de2f0c1";
        Handle::parse(good).unwrap();
        let upper = good.to_uppercase();
        let braces = format!("H-{{{}}}", &good[2..]);
        let simple = good.replace('-', "").replace('H', "H-");
        let version_one = good.replace("-4c3e-", "-1c3e-");
        let variant = good.replace("-9a53-", "-1a53-");
        let longer = format!("{good}0");
        for bad in [
            &upper,
            &braces,
            &simple,
            &version_one,
            &variant,
            &longer,
            "",
            "H-",
            &good[2..],
            "h-",
        ] {
            assert!(Handle::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let handle = Handle::random();
        let lease = Lease::new("lease-canary".to_owned()).unwrap();
        let key = DigestKey::new(&[7; 32]);
        let shown = format!(
            "{handle:?} {lease:?} {key:?} {:?} {:?}",
            key.handle(&handle),
            key.lease(&lease)
        );
        assert_eq!(
            shown,
            "[REDACTED] [REDACTED] DigestKey(..) HandleDigest(..) LeaseDigest(..)"
        );
    }

    #[test]
    fn digests_differ_by_key_and_by_kind() {
        let (one, two) = (DigestKey::new(&[1; 32]), DigestKey::new(&[2; 32]));
        let handle = Handle::random();
        assert_ne!(one.handle(&handle), two.handle(&handle));
        let lease = Lease::new(handle.expose().to_owned()).unwrap();
        assert_ne!(one.handle(&handle).as_bytes(), one.lease(&lease).as_bytes());
        assert_ne!(one.fingerprint(), two.fingerprint());
    }
}

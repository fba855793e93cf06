//! Compiles the protos with protox, so that a build needs no protoc.

use std::{env, path::PathBuf};

use prost::Message as _;

/// Messages with a credential in them: their `Debug` is written by hand, redacted, in `src/proto.rs`.
const SECRET_BEARING: [&str; 5] = [
    ".episoded.session.v1.Session",
    ".episoded.session.v1.RegisterSessionRequest",
    ".episoded.session.v1.RenewLeaseRequest",
    ".episoded.session.v1.TerminateSessionsRequest",
    ".episoded.session.v1.TerminateSessionsRequest.selector",
];

const PROTOS: [&str; 5] = [
    "proto/episoded/manifest/v1/manifest.proto",
    "proto/episoded/firewall/v1/firewall.proto",
    "proto/episoded/session/v1/session.proto",
    "proto/episoded/admin/v1/admin.proto",
    "proto/episoded/keycache/v1/keycache.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".episoded.admin.v1.BackupResponse")
        .bytes(".episoded.firewall.v1.ReadFileResponse")
        .boxed(".episoded.session.v1.RegisterSessionRequest.manifest.inline_manifest")
        .btree_map(".")
        .skip_debug(SECRET_BEARING)
        .compile_fds(descriptors)?;
    Ok(())
}

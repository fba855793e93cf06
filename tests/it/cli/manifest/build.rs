//! `manifest build`: what is listed, what is left out, and what it says of both.

use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command as Plain;

use serde_json::{Value, json};

use super::{Project, alone, entries, parsed, paths};
use crate::harness::{Ctl, Daemon, done, need_command};

/// 64 MiB, the largest file that is listed.
const LARGEST: u64 = 64 << 20;

fn sized(project: &Project, path: &str, size: u64) {
    let file = File::create(project.path(path)).expect("it is made");
    file.set_len(size).expect("it is sparse");
}

fn fifo(project: &Project, path: &str) {
    let made = Plain::new("mkfifo").arg(project.path(path)).status();
    assert!(made.expect("mkfifo runs").success());
}

fn lines(stderr: &str) -> Vec<&str> {
    let lines = stderr.lines();
    lines
        .map(|line| line.strip_prefix("episodectl: ").unwrap_or(line))
        .collect()
}

#[tokio::test]
async fn all_is_listed_that_git_does_not_ignore_and_the_rest_is_told_by_directory() {
    let (ctl, project) = (alone(), Project::rust());
    project.git(&["init", "-q"]);
    project.put("w/.gitignore", "*.log\n/target/\n");
    project.put("w/docs/.gitignore", "draft*\n!draft-3\n");
    for (path, content) in [
        ("w/.cargo/config.toml", "x"),
        ("w/target/debug/a", "x"),
        ("w/a.log", "x"),
        ("w/docs/draft-1", "x"),
        ("w/docs/draft-2", "x"),
        ("w/docs/draft-3", "x"),
        ("w/src/empty", ""),
        ("w/src/deep/er/b.log", "x"),
        ("w/odd\nname", "x"),
    ] {
        project.put(path, content);
    }
    let latin = project
        .path("w")
        .join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::write(latin, "x").unwrap();
    symlink("main.rs", project.path("w/src/link.rs")).unwrap();
    symlink("/etc", project.path("w/etc")).unwrap();
    fifo(&project, "w/pipe");
    sized(&project, "w/largest", LARGEST);
    sized(&project, "w/larger", LARGEST + 1);

    let told = project.build(&ctl, &[]).await;
    let manifest = project.read("m.json");
    assert_eq!(
        paths(&manifest),
        [
            ".cargo/config.toml",
            ".gitignore",
            "Cargo.toml",
            "docs/.gitignore",
            "docs/draft-3",
            "docs/guide.md",
            "largest",
            "src/empty",
            "src/lib.rs",
            "src/main.rs",
        ]
    );
    assert_eq!(
        lines(&told),
        [
            "left out in .: 2 ignored (a.log, target)",
            "left out in .: 1 symlink (etc)",
            "left out in .: 1 special (pipe)",
            "left out in .: 1 larger than 64 MiB (larger)",
            "left out in .: 2 with a name that cannot be listed (caf\u{fffd}, odd\\nname)",
            "left out in docs: 2 ignored (draft-1, draft-2)",
            "left out in src: 1 symlink (link.rs)",
            "left out in src/deep/er: 1 ignored (b.log)",
        ]
    );
    let find = |path: &str| {
        let all = manifest["entries"].as_array().unwrap();
        all.iter().find(|it| it["path"] == path).unwrap().clone()
    };
    for (path, content) in [("src/empty", &b""[..]), ("src/main.rs", b"fn main() {}\n")] {
        let entry = find(path);
        assert_eq!(entry["hash"], blake3::hash(content).to_hex().as_str());
        // As every 64-bit number in this JSON; a zero is there too.
        assert_eq!(entry["size"], content.len().to_string(), "{path}");
    }
    assert_eq!(find("largest")["size"], LARGEST.to_string());
}

#[tokio::test]
async fn what_is_ignored_is_said_by_the_files_of_the_repository_and_by_nothing_around_it() {
    let (ctl, project) = (alone(), Project::rust());
    // Above the root or the repository, and the user's own.
    project.put(".gitignore", "*\n");
    project.put("home/.config/git/ignore", "*.rs\n");
    let build = async |root: &str| {
        let mut command = ctl.command(&["manifest", "build", "--root", root]);
        command.env("HOME", project.path("home"));
        let done = done(command.current_dir(project.path("."))).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        let manifest = parsed(&done.stdout);
        paths(&manifest).join(" ")
    };
    let all = "Cargo.toml docs/guide.md src/lib.rs src/main.rs";
    assert_eq!(build("w").await, all);
    project.git(&["init", "-q"]);
    assert_eq!(build("w").await, all);
    // Below the top of a repository its files count up to there.
    project.put("w/.gitignore", "lib.rs\n");
    assert_eq!(build("w/src").await, "main.rs");
    project.put("w/.git/info/exclude", "main.rs\n");
    assert_eq!(build("w").await, ".gitignore Cargo.toml docs/guide.md");
    // A worktree's .git is a file.
    fs::remove_dir_all(project.path("w/.git")).unwrap();
    project.put("w/.git", "gitdir: elsewhere\n");
    assert_eq!(build("w/src").await, "main.rs");
}

#[tokio::test]
async fn what_git_tracks_is_what_is_in_its_index() {
    let (ctl, project) = (alone(), Project::rust());
    let refused = project
        .run(&ctl, &["manifest", "build", "--root", "w", "--tracked"])
        .await;
    assert_eq!(refused.code, Some(66), "{refused:?}");
    assert!(
        refused.stderr.contains("not a git repository"),
        "{refused:?}"
    );
    assert!(
        refused.stderr.contains("hint: leave out --tracked"),
        "{refused:?}"
    );

    project.git(&["init", "-q"]);
    project.put("w/.gitignore", "*.log\n");
    project.put("w/forced.log", "x");
    project.put("w/gone", "x");
    project.put("w/sub dir/\u{fc}ber.md", "x");
    symlink("gone", project.path("w/link")).unwrap();
    project.git(&["add", "--force", "."]);
    fs::remove_file(project.path("w/gone")).unwrap();
    project.put("w/src/main.rs", "changed");
    project.put("w/untracked", "x");
    // A repository's own configuration runs nothing.
    project.git(&["config", "core.fsmonitor", "touch ran; false"]);
    let told = project
        .build(&ctl, &["--tracked", "--edit", "src", "--tree", "docs=r"])
        .await;
    let manifest = project.read("m.json");
    assert_eq!(
        entries(&manifest),
        [
            (".gitignore", "READ"),
            ("Cargo.toml", "READ"),
            ("forced.log", "READ"),
            ("src/lib.rs", "READ_WRITE"),
            ("src/main.rs", "READ_WRITE"),
            ("sub dir/\u{fc}ber.md", "READ"),
        ]
    );
    assert_eq!(
        lines(&told),
        [
            "left out in .: 1 symlink (link)",
            "left out in .: 1 missing (gone)",
        ]
    );
    let hash = blake3::hash(b"changed").to_hex();
    assert_eq!(
        manifest["entries"][4]["hash"],
        hash.as_str(),
        "as it is now"
    );
    assert!(!project.path("w/ran").exists() && !project.path("ran").exists());
    // Below the top of the repository, what lies below.
    let below = ["manifest", "build", "--root", "w/src", "--tracked"];
    let below = parsed(&project.ok(&ctl, &below).await);
    assert_eq!(paths(&below), ["lib.rs", "main.rs"]);
}

#[tokio::test]
async fn patterns_say_what_is_listed_and_what_for() {
    let (ctl, project) = (alone(), Project::rust());
    project.put("w/src/bin/lib.rs", "x");
    for (args, expected) in [
        (&["docs"][..], &[("docs/guide.md", "READ")][..]),
        (
            &["lib.rs"],
            &[("src/bin/lib.rs", "READ"), ("src/lib.rs", "READ")],
        ),
        (
            &["--edit", "/src/*.rs", "--zoom", "*.md", "Cargo.*"],
            &[
                ("Cargo.toml", "READ"),
                ("docs/guide.md", "READ_WITH_ZOOM"),
                ("src/lib.rs", "READ_WRITE"),
                ("src/main.rs", "READ_WRITE"),
            ],
        ),
        // Without any, the options say only what the files are for.
        (
            &["--edit", "src/main.rs", "--zoom", "src"],
            &[
                ("Cargo.toml", "READ"),
                ("docs/guide.md", "READ"),
                ("src/bin/lib.rs", "READ_WITH_ZOOM"),
                ("src/lib.rs", "READ_WITH_ZOOM"),
                ("src/main.rs", "READ_WRITE"),
            ],
        ),
        (
            &[".", "--tree", "src=rw"],
            &[("Cargo.toml", "READ"), ("docs/guide.md", "READ")],
        ),
    ] {
        project.build(&ctl, args).await;
        let manifest = project.read("m.json");
        assert_eq!(entries(&manifest), expected, "{args:?}");
    }
    let told = project
        .build(&ctl, &["docs", "nothing", "--edit", "none/*"])
        .await;
    assert_eq!(
        lines(&told),
        [
            "left out in .: 1 not matched (Cargo.toml)",
            "left out in src: 2 not matched (lib.rs, main.rs)",
            "left out in src/bin: 1 not matched (lib.rs)",
            "no file matches nothing",
            "no file matches none/*",
        ]
    );
    for (args, says) in [
        (&[""][..], "it is empty"),
        (&["--edit", ""], "it is empty"),
        (&["!src"], "nothing is taken back"),
        (&["src["], "unclosed character class"),
        (&["--tracked", "src"], "cannot be used with"),
        (&["--tree", ".=rw"], "the root itself cannot be written"),
        (&["--tree", "../x=r"], "must not climb out"),
        (&["--tree", "out"], "a tree is DIR=r, DIR=w or DIR=rw"),
        (&["--allow-tool", "fly"], "invalid value 'fly'"),
        (&["--allow-host", "h:0"], "a host is HOST, HOST:PORT"),
        (&["--mcp", "docs"], "a tool is SERVER/TOOL"),
        (&["--preset", "cobol"], "invalid value 'cobol'"),
    ] {
        let own = ["manifest", "build", "--root", "w"];
        let refused = project.run(&ctl, &[&own[..], args].concat()).await;
        assert_eq!(refused.code, Some(64), "{args:?}: {refused:?}");
        assert!(refused.stderr.contains(says), "{args:?}: {refused:?}");
        assert!(refused.stdout.is_empty(), "{args:?}: {refused:?}");
    }
}

#[tokio::test]
async fn the_classes_of_tools_are_those_that_the_rest_needs_or_those_named() {
    const LOOKS: [&str; 3] = ["READ", "LIST_FILES", "SEARCH"];
    let (ctl, project) = (alone(), Project::rust());
    for (args, more) in [
        (&[][..], &[][..]),
        (&["--edit", "src"], &["WRITE"]),
        (&["--tree", "out=w"], &["WRITE"]),
        (&["--tree", "docs=r"], &[]),
        (&["--preset", "rust"], &["EXECUTE"]),
        (&["--preset", "git-read"], &["EXECUTE", "GIT"]),
        (&["--allow-host", "example.org:443"], &["NETWORK"]),
        (&["--allow-model", "small"], &["INFERENCE"]),
        (&["--allow-artifact", "report"], &["ARTIFACT"]),
        (&["--mcp", "docs/search"], &[]),
    ] {
        project.build(&ctl, args).await;
        let manifest = project.read("m.json");
        let tools = manifest["tools"].as_array().unwrap();
        let mut tools: Vec<&str> = tools.iter().map(|it| it.as_str().unwrap()).collect();
        tools.sort_unstable();
        let mut expected = [&LOOKS, more].concat();
        expected.sort_unstable();
        let expected: Vec<String> = expected
            .iter()
            .map(|it| format!("TOOL_CLASS_{it}"))
            .collect();
        assert_eq!(tools, expected, "{args:?}");
    }
    let args = [
        "--allow-tool",
        "read",
        "--allow-tool",
        "READ",
        "--allow-tool",
        "list-files",
        "--edit",
        "src",
        "--tree",
        "out/=w",
        "--allow-host",
        "Example.org:443",
        "--mcp",
        "docs/search",
        "--manifest-id",
        "m-7",
        "--profile-id",
        "p-7",
    ];
    let told = project.build(&ctl, &args).await;
    let manifest = project.read("m.json");
    assert_eq!(
        manifest["tools"],
        json!(["TOOL_CLASS_READ", "TOOL_CLASS_LIST_FILES"])
    );
    assert_eq!(
        manifest["trees"],
        json!([{"path": "out", "access": "TREE_ACCESS_WRITE"}])
    );
    assert_eq!(
        manifest["network"],
        json!([{"host": "example.org", "port": 443}])
    );
    assert_eq!(
        manifest["namedTools"],
        json!([{"server": "docs", "name": "search"}])
    );
    assert_eq!(
        (&manifest["manifestId"], &manifest["profileId"]),
        (&json!("m-7"), &json!("p-7"))
    );
    assert_eq!(
        lines(&told),
        [
            "warning: tools does not have WRITE, although paths are writable",
            "warning: tools does not have NETWORK, although hosts are listed",
        ]
    );
}

#[tokio::test]
async fn rules_come_from_files_and_every_bad_field_of_them_is_told() {
    let (ctl, project) = (alone(), Project::rust());
    let own = [
        "--format",
        "json",
        "manifest",
        "build",
        "--root",
        "w",
        "--rules",
        "rules.json",
    ];
    project.put(
        "rules.json",
        r#"[{"program": "ls", "arguments": [{"any_number_of": {"path_under": "src"}}]},
            {"program": "make", "arguments": [{"oneOf": {"words": ["all", "test"]}}]}]"#,
    );
    let rules = parsed(&project.ok(&ctl, &own).await)["commands"].clone();
    assert_eq!(
        rules[0]["arguments"],
        json!([{"anyNumberOf": {"pathUnder": "src"}}])
    );
    // The same rule again is one rule.
    let twice = [&own[..], &["--rules", "rules.json"]].concat();
    assert_eq!(parsed(&project.ok(&ctl, &twice).await)["commands"], rules);

    project.put(
        "rules.json",
        r#"[{"program": "", "arguments": [{"anyNumberOf": {"text": {}}}, {"literal": "a\u0000"}]},
            {"program": "l*", "environment": ["1A"]},
            {"program": "ls", "arguments": [{"integer": {"min": "2", "max": "1"}}]},
            {"program": "ls", "arguments": [{"pathUnder": "../x"}], "workingDirectory": "/x"}]"#,
    );
    let refused = project.run(&ctl, &own).await;
    assert_eq!(refused.code, Some(65), "{refused:?}");
    let error = parsed(&refused.stderr);
    let fields = error["fieldViolations"].as_array().expect("fields");
    let mut fields: Vec<&str> = fields
        .iter()
        .map(|it| it["field"].as_str().unwrap())
        .collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "commands[0].arguments[0].any_number_of",
            "commands[0].arguments[1].literal",
            "commands[0].program",
            "commands[1].environment[0]",
            "commands[1].program",
            "commands[2].arguments[0].integer",
            "commands[3].arguments[0].path_under",
            "commands[3].working_directory",
        ]
    );
    for (text, says) in [
        ("{}", "rules.json is no list of command rules"),
        ("[", "rules.json is not JSON"),
        ("[1]", "rules.json: [0] must be an object"),
        (
            r#"[{"program": 1}, 2, {"arguments": [{"glob": "*"}]}]"#,
            "rules.json cannot be read: 3 faults\n  [0].program: must be text, not a number\n  [1]: must be an object",
        ),
        (
            r#"[{"program": "ls", "args": []}]"#,
            "rules.json: [0].args is not known",
        ),
        (
            r#"[{"program": "ls"}, {"program": "ls", "arguments": [{"literal": "a", "text": {}}]}]"#,
            "rules.json: [1].arguments[0].text stands beside literal",
        ),
    ] {
        project.put("rules.json", text);
        let refused = project.run(&ctl, &own[2..]).await;
        assert_eq!(refused.code, Some(65), "{text}: {refused:?}");
        assert!(refused.stderr.contains(says), "{text}: {refused:?}");
    }
}

#[tokio::test]
async fn a_preset_allows_the_common_commands_of_its_tool_and_no_dangerous_one() {
    let (ctl, project) = (alone(), Project::rust());
    for (preset, allowed, denied) in [
        ("rust", "cargo test --workspace", "cargo install x"),
        ("python", "pytest -q tests", "python3 -c x"),
        ("node", "npm test", "npm install x"),
        ("git-read", "git log --oneline", "git push"),
    ] {
        let case = |line: &str, verdict: &str| {
            let request = json!({"command": {"string": line}});
            json!({"name": line, "request": request, "verdict": verdict}).to_string()
        };
        let cases = [case(allowed, "ALLOW"), case(denied, "DENY")].join("\n");
        project.put("cases.jsonl", &cases);
        let told = project.build(&ctl, &["--preset", preset]).await;
        project
            .ok(&ctl, &["manifest", "test", "m.json", "cases.jsonl"])
            .await;
        let warned = told.contains("runs code from the workspace");
        assert_eq!(warned, preset != "git-read", "{told}");
        let by_cargo = "what cargo finds there decides; so do commands[1], commands[2]";
        assert_eq!(told.contains(by_cargo), preset == "rust", "{told}");
    }
    let both = [
        "--preset", "rust", "--preset", "git-read", "--preset", "rust",
    ];
    project.build(&ctl, &both).await;
    let rules = project.read("m.json")["commands"].as_array().unwrap().len();
    let count = async |name| {
        let rules = ctl.json(&["manifest", "presets", name]).await;
        rules.as_array().unwrap().len()
    };
    assert_eq!(rules, count("rust").await + count("git-read").await);
}

#[tokio::test]
async fn the_same_tree_at_another_place_is_the_same_manifest_stored_once() {
    let daemon = Daemon::start().await;
    let ctl = Ctl::new(daemon.dirs());
    let args = ["--edit", "src", "--tree", "target=rw", "--preset", "rust"];
    let (one, other) = (Project::rust(), Project::rust());
    one.build(&ctl, &args).await;
    other.build(&ctl, &args).await;
    let bytes = |project: &Project| fs::read(project.path("m.json")).unwrap();
    assert_eq!(bytes(&one), bytes(&other));

    let own = [
        "--format", "json", "manifest", "build", "--root", "w", "--put",
    ];
    let put = [&own[..], &args].concat();
    let first = parsed(&one.ok(&ctl, &put).await);
    let second = parsed(&other.ok(&ctl, &put).await);
    assert_eq!(first["manifestHash"], second["manifestHash"]);
    assert_eq!(
        (&first["manifestId"], &first["entries"]),
        (&json!("workspace"), &json!(4))
    );
    assert_eq!(
        (&first["alreadyStored"], &second["alreadyStored"]),
        (&Value::Null, &json!(true))
    );
    let hash = format!("{}\n", first["manifestHash"].as_str().unwrap());
    let table = [&put[2..], &["--out", "n.json"]].concat();
    assert_eq!(one.ok(&ctl, &table).await, hash);
    assert_eq!(fs::read(one.path("n.json")).unwrap(), bytes(&one));
    let out = ["manifest", "build", "--root", "w", "--out", "n.json"];
    assert_eq!(one.ok(&ctl, &[&out[..], &args].concat()).await, hash);
    // On stdout it is the manifest itself, on one line if that is asked for.
    let plain = [&["manifest", "build", "--root", "w"], &args[..]].concat();
    assert_eq!(one.ok(&ctl, &plain).await.into_bytes(), bytes(&one));
    let line = one
        .ok(&ctl, &[&["--format", "jsonl"], &plain[..]].concat())
        .await;
    assert_eq!(
        (line.lines().count(), parsed(&line)),
        (1, one.read("m.json"))
    );

    one.put("w/src/lib.rs", "// changed\n");
    let changed = parsed(&one.ok(&ctl, &put).await);
    assert_ne!(changed["manifestHash"], first["manifestHash"]);
    let nowhere = [
        "manifest",
        "build",
        "--root",
        "w",
        "--out",
        "no/such/m.json",
    ];
    assert_eq!(one.run(&ctl, &nowhere).await.code, Some(73));
    let unreachable = one.run(&alone(), &put).await;
    assert_eq!(unreachable.code, Some(69), "{unreachable:?}");
}

#[tokio::test]
async fn a_manifest_does_not_list_the_file_it_is_written_to() {
    let (ctl, project) = (alone(), Project::rust());
    let args = ["manifest", "build", "--root", "w", "--out", "w/m.json"];
    let first = project.ok(&ctl, &args).await;
    let again = project.run(&ctl, &args).await;
    assert_eq!(
        again.stdout, first,
        "the first one was no part of the second"
    );
    assert_eq!(
        lines(&again.stderr),
        ["left out in .: 1 being written (m.json)"]
    );
    // A shell has made the file before the program runs.
    let file = File::create(project.path("w/n.json")).unwrap();
    let mut command = std::process::Command::new(crate::harness::EPISODECTL);
    command.args(["manifest", "build", "--root", "w", "src", "n.json"]);
    let output = command
        .current_dir(project.path("."))
        .stdout(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        paths(&project.read("w/n.json")),
        ["src/lib.rs", "src/main.rs"]
    );
}

#[tokio::test]
async fn a_root_that_cannot_be_read_is_an_error_and_what_lies_in_it_is_told() {
    let (ctl, project) = (alone(), Project::rust());
    project.put("w/secret", "x");
    project.put("w/closed/x", "x");
    project.put("shut/x", "x");
    for path in [".", "w"] {
        fs::set_permissions(project.path(path), Permissions::from_mode(0o755)).unwrap();
    }
    for path in ["w/secret", "w/closed", "shut"] {
        fs::set_permissions(project.path(path), Permissions::from_mode(0o000)).unwrap();
    }
    let run = async |args: &[&str]| {
        let mut command = ctl.command(&[&["manifest", "build", "--root"], args].concat());
        command.current_dir(project.path("."));
        // No mode keeps root out.
        if rustix::process::geteuid().is_root() {
            command.uid(54321).gid(54321);
        }
        done(&mut command).await
    };
    let told = run(&["w"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    assert_eq!(
        lines(&told.stderr),
        ["left out in .: 2 unreadable (closed, secret)"]
    );
    for (root, code, says) in [
        ("shut", 66, "cannot read shut: Permission denied"),
        ("nowhere", 66, "cannot read nowhere: No such file"),
        ("w/Cargo.toml", 64, "w/Cargo.toml is no directory"),
    ] {
        let refused = run(&[root]).await;
        assert_eq!(refused.code, Some(code), "{root}: {refused:?}");
        assert!(refused.stderr.contains(says), "{root}: {refused:?}");
        assert!(refused.stdout.is_empty(), "{root}: {refused:?}");
    }
    for path in ["w/closed", "shut"] {
        fs::set_permissions(project.path(path), Permissions::from_mode(0o755)).unwrap();
    }
}

#[tokio::test]
async fn files_whose_names_differ_in_the_writing_of_an_accent_are_refused_by_name() {
    let (ctl, project) = (alone(), Project::new());
    project.put("w/a", "x");
    project.put("w/caf\u{e9}", "x");
    project.put("w/cafe\u{301}", "x");
    let refused = project
        .run(&ctl, &["manifest", "build", "--root", "w"])
        .await;
    assert_eq!(refused.code, Some(65), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("entries[2] (caf\u{e9}).path: is that of entries[1] (cafe\u{301}) again"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn how_far_it_is_is_shown_on_a_terminal_only() {
    let (ctl, project) = (alone(), Project::rust());
    assert_eq!(project.build(&ctl, &[]).await, "", "stderr is a pipe");
    if !need_command("script") {
        return;
    }
    let mut script = ctl.other("script");
    let line = "episodectl manifest build --root w --out m.json";
    script.args(["-qec", line, "/dev/null"]);
    let shown = done(script.current_dir(project.path("."))).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(
        shown
            .stdout
            .contains("\r[##########                              ]  25 % of 4 files"),
        "{shown:?}"
    );
    assert!(
        shown.stdout.contains("##] 100 % of 4 files\r\n"),
        "{shown:?}"
    );
}

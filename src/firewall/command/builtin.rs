//! First words that a text may not have, whatever a rule says.
//!
//! A rule is about a program. These words are read by the shell itself, and what
//! comes after them may then mean something else than what is judged here. The
//! built-ins left out (`echo`, `true`, `pwd`, `kill`, …) do what the program of
//! that name does, and are left to the rules.

/// Reserved words of bash and dash.
const RESERVED: &[&str] = &[
    "!", "[[", "]]", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for",
    "function", "if", "in", "select", "then", "time", "until", "while", "{", "}",
];

/// Built-ins that change the shell, or run or read what is not judged.
const CHANGES: &[&str] = &[
    ".",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "cd",
    "chdir",
    "command",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "declare",
    "dirs",
    "disown",
    "enable",
    "eval",
    "exec",
    "exit",
    "export",
    "fc",
    "fg",
    "getopts",
    "hash",
    "help",
    "history",
    "jobs",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "pushd",
    "read",
    "readarray",
    "readonly",
    "return",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "times",
    "trap",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "wait",
];

/// Whether a shell reads the word itself.
pub(super) fn is_of_the_shell(word: &str) -> bool {
    RESERVED.contains(&word) || CHANGES.contains(&word)
}

/// Whether a built-in that is left to the rules would look into the shell's
/// variables: `printf -v` and the conversion `%n` set one; `test -v` and `-R`
/// evaluate the subscript of an array, command substitutions and all.
pub(super) fn touches_variables(words: &[String]) -> bool {
    let Some((program, arguments)) = words.split_first() else {
        return false;
    };
    match program.as_str() {
        "printf" => {
            let option = arguments.first().is_some_and(|word| word.starts_with("-v"));
            // The format is the first word, or the one behind `--`.
            option || arguments.iter().take(2).any(|word| counts(word))
        }
        "test" | "[" => arguments.iter().any(|word| word == "-v" || word == "-R"),
        _ => false,
    }
}

/// Whether a format has the conversion `n`, which stores a count.
fn counts(format: &str) -> bool {
    let mut rest = format;
    while let Some(start) = rest.find('%') {
        rest = &rest[start + 1..];
        if let Some(behind) = rest.strip_prefix('%') {
            rest = behind;
            continue;
        }
        let conversion =
            rest.trim_start_matches(|c: char| "#'-+ .*hjlLqtzI".contains(c) || c.is_ascii_digit());
        if conversion.starts_with('n') {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touches(text: &str) -> bool {
        let words: Vec<_> = text.split('_').map(str::to_owned).collect();
        touches_variables(&words)
    }

    #[test]
    fn printf_and_test_may_not_touch_variables() {
        for text in [
            "printf_-v_x_1",
            "printf_-vx_1",
            "printf_%n_PATH",
            "printf_--_%n_PATH",
            "printf_a%s%% %5.3ln_a_PATH",
            "printf_%-*n_1_PATH",
            "test_-v_a[0]",
            "test_!_-R_a",
            "[_-v_a_]",
        ] {
            assert!(touches(text), "{text}");
        }
        for text in [
            "printf_%s_-v",
            "printf_%%n",
            "printf_%s\\n_a",
            "printf_100%_n_a",
            "printf",
            "test_-n_a",
            "test_a_=_b",
            "echo_-v",
            "ls_%n",
        ] {
            assert!(!touches(text), "{text}");
        }
    }
}

//! `mlctl completions`.

use anyhow::Result;
use clap::Args;
use clap_complete::Shell;

/// Print the completions for a shell
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    shell: Shell,
}

impl CompletionsArgs {
    pub fn run(&self) -> Result<u8> {
        super::render::print_document(&script(self.shell))?;
        Ok(0)
    }
}

fn script(shell: Shell) -> String {
    let mut script = vec![];
    clap_complete::generate(shell, &mut super::command(), "mlctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// `UPDATE=1 cargo test --release completions` writes them again.
    #[test]
    fn committed_completions_are_fresh() {
        let shells = [
            (Shell::Bash, "mlctl.bash"),
            (Shell::Zsh, "_mlctl"),
            (Shell::Fish, "mlctl.fish"),
            (Shell::PowerShell, "_mlctl.ps1"),
            (Shell::Elvish, "mlctl.elv"),
        ];
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
        for (shell, name) in shells {
            let path = folder.join(name);
            if std::env::var_os("UPDATE").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(&path, script(shell)).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == script(shell), "{name} is stale: UPDATE=1 cargo test --release");
        }
    }
}

//! What a command says and is told: standard output, standard error, prompts, and how a command can end.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Longer lines and documents are refused.
const INPUT_BYTES_MAX: u64 = 1 << 20;

/// How a command ended that could do its work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// As asked.
    Done,
    /// A member answered that it will not, or nobody knows yet what came of it; the answer was printed.
    Refused,
    /// A member could not be asked; that was printed.
    Unreachable,
}

/// Why a command went no further.
#[derive(PartialEq, Eq, Debug)]
pub enum Stop {
    /// `Error: …` on standard error.
    Error(String),
    /// The same, because the arguments make no sense.
    Usage(String),
    /// Ctrl-C, or the end of standard input at a prompt.
    Aborted,
    /// Whoever reads the output has seen enough and gone.
    Gone,
}

impl Stop {
    /// An error.
    pub fn error(text: impl Into<String>) -> Self {
        Self::Error(text.into())
    }
}

/// A command's end.
pub type Outcome = Result<Verdict, Stop>;

/// Where lines come from.
type Input = Arc<Mutex<dyn BufRead + Send>>;

/// The three streams.
pub struct Console {
    input: Input,
    out: RefCell<Box<dyn Write>>,
    err: RefCell<Box<dyn Write>>,
    /// Is standard output a terminal?
    pub terminal: bool,
}

impl Console {
    /// This process's streams.
    pub fn process() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self::new(BufReader::new(std::io::stdin()), std::io::stdout(), std::io::stderr(), terminal)
    }

    /// Any streams.
    pub fn new(
        input: impl BufRead + Send + 'static,
        out: impl Write + 'static,
        err: impl Write + 'static,
        terminal: bool,
    ) -> Self {
        let (out, err) = (RefCell::new(Box::new(out) as _), RefCell::new(Box::new(err) as _));
        Self { input: Arc::new(Mutex::new(input)), out, err, terminal }
    }

    /// Writes text as it is to standard output.
    pub fn write(&self, text: &str) -> Result<(), Stop> {
        let mut out = self.out.borrow_mut();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|_| Stop::Gone)
    }

    /// Writes a line to standard output.
    pub fn say(&self, line: impl AsRef<str>) -> Result<(), Stop> {
        self.write(&format!("{}\n", line.as_ref()))
    }

    /// Writes a line to standard error; nothing can be done if that is gone.
    pub fn complain(&self, line: impl AsRef<str>) {
        let _ = writeln!(self.err.borrow_mut(), "{}", line.as_ref());
    }

    /// Asks for a line. Without a default an empty answer is asked for again; with one it is taken for the default.
    pub async fn prompt(&self, text: &str, default: Option<&str>) -> Result<String, Stop> {
        let shown = default.map(|default| format!(" [{default}]")).unwrap_or_default();
        loop {
            self.write(&format!("{text}{shown}: "))?;
            let line = self.read(one_line).await?;
            match (line.is_empty(), default) {
                (false, _) => return Ok(line),
                (true, Some(default)) => return Ok(default.to_owned()),
                (true, None) => {}
            }
        }
    }

    /// Asks yes or no; an empty answer means no.
    pub async fn confirm(&self, text: &str) -> Result<bool, Stop> {
        loop {
            self.write(&format!("{text} [y/N]: "))?;
            match self.read(one_line).await?.to_ascii_lowercase().as_str() {
                "y" | "yes" => return Ok(true),
                "" | "n" | "no" => return Ok(false),
                _ => self.say("Error: invalid input")?,
            }
        }
    }

    /// Everything from standard input.
    pub async fn rest_of_input(&self) -> Result<String, Stop> {
        self.read(everything).await
    }

    /// Reads on a thread of its own: a person may think for long, and Ctrl-C must be heard meanwhile.
    async fn read(&self, how: fn(&mut dyn BufRead) -> std::io::Result<Option<String>>) -> Result<String, Stop> {
        let (input, (tell, told)) = (self.input.clone(), tokio::sync::oneshot::channel());
        let read = move || drop(tell.send(how(&mut *input.lock().unwrap_or_else(PoisonError::into_inner))));
        let thread = std::thread::Builder::new().name("standard input".to_owned()).spawn(read);
        thread.map_err(|e| Stop::Error(format!("cannot start a thread for standard input: {e}")))?;
        match told.await {
            Ok(Ok(Some(text))) => Ok(text),
            Ok(Err(e)) => Err(Stop::Error(format!("cannot read standard input: {e}"))),
            Ok(Ok(None)) | Err(_) => Err(Stop::Aborted),
        }
    }
}

fn one_line(input: &mut dyn BufRead) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let length = input.take(INPUT_BYTES_MAX).read_line(&mut line)?;
    Ok((length > 0).then(|| line.trim().to_owned()))
}

fn everything(input: &mut dyn BufRead) -> std::io::Result<Option<String>> {
    let mut text = String::new();
    match input.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text)? as u64 {
        length if length > INPUT_BYTES_MAX => Err(std::io::Error::other(format!("more than {INPUT_BYTES_MAX} bytes"))),
        _ => Ok(Some(text)),
    }
}

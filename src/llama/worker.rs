//! Workers: processes that each hold a part of a model's layers and compute them (llama.cpp's RPC backend, feature `rpc`).
//!
//! The connection is neither authenticated nor encrypted, and a hostile peer may take over either side. So a worker
//! listens on 127.0.0.1 alone.

#[cfg(not(feature = "rpc"))]
pub use without::{serve, use_worker};

#[cfg(feature = "rpc")]
pub use with::{serve, use_worker};

#[cfg(feature = "rpc")]
mod with {
    use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs as _};
    use std::sync::Mutex;
    use std::time::Duration;

    use crate::llama::ffi;
    use crate::{Error, Result};

    /// How long a worker may take to accept a connection.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Makes the devices of the worker at `endpoint` (`HOST:PORT`) ours: models that are loaded from now on are divided
    /// among all devices by their free memory.
    ///
    /// # Errors
    /// If no worker answers there.
    pub fn use_worker(endpoint: &str) -> Result<()> {
        static USED: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let mut used = USED.lock().map_err(|_| Error::failed("a thread panicked while it reached for a worker"))?;
        if used.iter().any(|other| other == endpoint) {
            return Ok(());
        }
        let nobody = |why: String| {
            Error::input(format!(
                "no worker answers at {endpoint}: {why}; start one there with `kvllama worker --port PORT`, or open a \
                 tunnel to it with `ssh -L`"
            ))
        };
        // llama.cpp ends the process if nobody answers.
        let mut addresses = endpoint.to_socket_addrs().map_err(|error| nobody(error.to_string()))?;
        let address = addresses.next().ok_or_else(|| nobody("the name has no address".to_owned()))?;
        TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| nobody(error.to_string()))?;
        if !ffi::use_worker(endpoint) {
            return Err(nobody("it has no device".to_owned()));
        }
        used.push(endpoint.to_owned());
        Ok(())
    }

    /// Serves this machine's devices on a port of 127.0.0.1, one program at a time, until the process is ended.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn serve(port: u16, threads: u32) -> Result<()> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop);
        free.map_err(|error| Error::input(format!("cannot listen on port {port}: {error}; choose another --port")))?;
        ffi::serve(&format!("{}:{port}", Ipv4Addr::LOCALHOST), threads);
        Err(Error::failed(format!("the worker on port {port} cannot serve")))
    }
}

#[cfg(not(feature = "rpc"))]
mod without {
    use crate::{Error, Result};

    const NOT_HERE: &str = "this build has no workers; build kvllama with --features rpc";

    /// Refuses: this build has no workers.
    ///
    /// # Errors
    /// Always.
    pub fn use_worker(_endpoint: &str) -> Result<()> {
        Err(Error::input(NOT_HERE))
    }

    /// Refuses: this build has no workers.
    ///
    /// # Errors
    /// Always.
    pub fn serve(_port: u16, _threads: u32) -> Result<()> {
        Err(Error::input(NOT_HERE))
    }
}

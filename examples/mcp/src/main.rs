//! A real MCP server that demands credentials, and a real MCP client that takes a rendered config.
//!
//! `mcp serve` reads one line of JSON, `{"headers": {…}, "query": {…}}`, prints its URL, and answers only requests that
//! carry exactly these; it ends with its standard input, or after some minutes. Of a list of these, the number behind
//! the URL says which one is meant: `…/mcp/0`. `mcp call` reads an `mcp-json` config, connects as clients do, calls a
//! tool and prints what it answers; of several configs, one line for each, with `error` where it failed. Credentials
//! come by standard input, never by an argument, and are never printed.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::error::Error;
use std::io::{BufRead, Read};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::model::{CallToolRequestParams, ServerCapabilities, ServerConfig};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, ServiceExt, tool, tool_handler, tool_router};
use serde::Deserialize;

/// The longest a server lives.
const LIFETIME: Duration = Duration::from_secs(300);
/// The longest a call takes.
const CALL_TIME: Duration = Duration::from_secs(10);

type Failed = Box<dyn Error>;

fn main() -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match std::env::args().nth(1).as_deref() {
        Some("serve") => runtime.block_on(async {
            let _ = tokio::time::timeout(LIFETIME, serve()).await;
            Ok(())
        }),
        Some("call") => runtime.block_on(calls()),
        _ => Err("usage: mcp serve | mcp call".into()),
    }
}

/// What every request has to carry.
#[derive(Deserialize)]
struct Demanded {
    headers: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
}

/// What one line asks for.
#[derive(Deserialize)]
#[serde(untagged)]
enum Demands {
    One(Demanded),
    Many(Vec<Demanded>),
}

impl Demands {
    fn are_met(&self, request: &Request<Incoming>) -> bool {
        match self {
            Self::One(demanded) => demanded.is_met(request),
            Self::Many(demands) => {
                let number = request.uri().path().rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
                number.and_then(|number| demands.get(number)).is_some_and(|demanded| demanded.is_met(request))
            }
        }
    }
}

impl Demanded {
    fn is_met(&self, request: &Request<Incoming>) -> bool {
        let query: BTreeMap<String, String> = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (decoded(name), decoded(value)))
            .collect();
        let has = |(name, value): (&String, &String)| {
            request.headers().get(name.as_str()).is_some_and(|found| found.as_bytes() == value.as_bytes())
        };
        query == self.query && self.headers.iter().all(has)
    }
}

/// A blank is `%20` here, never `+`.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[derive(Clone)]
struct Calendar {
    #[allow(dead_code, reason = "read by the handler's macro")]
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Calendar {
    fn new() -> Self {
        Self { tool_router: Self::tool_router() }
    }

    #[tool(description = "The next free slots")]
    fn check_availability(&self) -> String {
        "tomorrow 09:30, tomorrow 14:00".into()
    }
}

#[tool_handler]
impl ServerHandler for Calendar {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

async fn serve() -> Result<(), Failed> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let demanded: Arc<Demands> = Arc::new(serde_json::from_str(&line)?);
    let service = StreamableHttpService::new(
        || Ok(Calendar::new()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/mcp", listener.local_addr()?);
    // Whoever started this closes the pipe to end it.
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(ended);
    });
    let accept = async {
        while let Ok((stream, _)) = listener.accept().await {
            let (service, demanded) = (service.clone(), Arc::clone(&demanded));
            tokio::spawn(async move {
                let answer = service_fn(|request: Request<Incoming>| {
                    let (service, met) = (service.clone(), demanded.are_met(&request));
                    async move {
                        if met {
                            return Ok::<_, Infallible>(service.handle(request).await);
                        }
                        let mut refused = Response::new(Full::new(Bytes::from_static(b"bad credentials")).boxed());
                        *refused.status_mut() = StatusCode::UNAUTHORIZED;
                        Ok(refused)
                    }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    };
    tokio::select! {
        () = accept => {}
        _ = end => {}
    }
    Ok(())
}

/// The config of the `mcp-json` target.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    mcp_servers: HashMap<String, Server>,
}

#[derive(Deserialize)]
struct Server {
    url: String,
    #[serde(default)]
    headers: HashMap<String, String>,
}

/// Makes the calls one after the other; fails when one of them did.
async fn calls() -> Result<(), Failed> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text)?;
    let mut failed = false;
    for config in serde_json::Deserializer::from_str(&text).into_iter() {
        let line = match tokio::time::timeout(CALL_TIME, call(config?)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => serde_json::json!({"error": error.to_string()}),
            Err(_) => serde_json::json!({"error": "no answer in time"}),
        };
        failed |= line.get("error").is_some();
        println!("{line}");
    }
    if failed { Err("not every call succeeded".into()) } else { Ok(()) }
}

async fn call(config: Config) -> Result<serde_json::Value, Failed> {
    let server = config.mcp_servers.into_values().next().ok_or("the config names no server")?;
    let mut headers = HashMap::new();
    for (name, value) in server.headers {
        headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let config = StreamableHttpClientTransportConfig::with_uri(server.url).custom_headers(headers);
    // The error of a transport can hold the URL, and the URL a secret.
    let failed = |what: &'static str| move |_| what;
    let client =
        ().serve(StreamableHttpClientTransport::from_config(config))
            .await
            .map_err(|_| "the server refused the connection")?;
    let tools = client.list_all_tools().await.map_err(failed("the tools cannot be listed"))?;
    let answer = client
        .call_tool(CallToolRequestParams::new("check_availability"))
        .await
        .map_err(failed("the tool cannot be called"))?;
    let names: Vec<String> = tools.into_iter().map(|tool| tool.name.into_owned()).collect();
    client.cancel().await?;
    Ok(serde_json::json!({"tools": names, "answer": answer.content}))
}

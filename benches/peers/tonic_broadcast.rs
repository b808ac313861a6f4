//! The server as people usually write it: tonic, and one `tokio::sync::broadcast` channel for all
//! streams.

use std::pin::Pin;
use std::time::SystemTime;

use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

mod proto {
    tonic::include_proto!("mes_grpc");
}
use proto::messenger_server_server::{MessengerServer, MessengerServerServer};
use proto::{ReadMessagesResponse, SendMessageRequest, SendMessageResponse};

struct Chat {
    messages: broadcast::Sender<ReadMessagesResponse>,
}

#[tonic::async_trait]
impl MessengerServer for Chat {
    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        let SendMessageRequest { author, text } = request.into_inner();
        let send_time = Some(SystemTime::now().into());
        let _ = self.messages.send(ReadMessagesResponse { author, text, send_time });
        Ok(Response::new(SendMessageResponse { send_time }))
    }

    type ReadMessagesStream =
        Pin<Box<dyn Stream<Item = Result<ReadMessagesResponse, Status>> + Send>>;

    async fn read_messages(
        &self,
        _: Request<()>,
    ) -> Result<Response<Self::ReadMessagesStream>, Status> {
        let messages = BroadcastStream::new(self.messages.subscribe());
        // The channel reports when a receiver has missed messages. The stream ignores that and
        // continues.
        Ok(Response::new(Box::pin(messages.filter_map(Result::ok).map(Ok))))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::var("MESSENGER_SERVER_PORT")?.parse()?;
    let chat = Chat { messages: broadcast::channel(1024).0 };
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(u32::MAX)
        .add_service(MessengerServerServer::new(chat))
        .serve(([0, 0, 0, 0], port).into())
        .await?;
    Ok(())
}

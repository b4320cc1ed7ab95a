"""Bodies that are no JSON, as schemathesis is to send them."""
import schemathesis


@schemathesis.serializer("application/sdp", "application/trickle-ice-sdpfrag")
def text(context, value):
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else str(value).encode()


@schemathesis.deserializer("application/sdp", "application/trickle-ice-sdpfrag", "video/mp4")
def opaque(context, response):
    return response.content.decode("latin-1")

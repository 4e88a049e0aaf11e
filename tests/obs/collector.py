"""A collector of spans over OTLP/HTTP, for tests: keeps what it is sent."""

import gzip
import http.server
import threading

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


class Span:
    """One span, with its resource's attributes."""

    def __init__(self, resource, span):
        self.service = resource.get("service.name")
        self.node = resource.get("service.instance.id")
        self.name = span.name
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.attributes = plain(span.attributes)

    def __repr__(self):
        return f"<{self.service} {self.node} {self.name} {self.trace} {self.parent}>{self.id} {self.attributes}>"


def plain(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


class Collector:
    """Serves on a free port of loopback until it is left."""

    def __init__(self):
        self.spans, self.lock = [], threading.Lock()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
                collector.take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, request):
        with self.lock:
            for part in request.resource_spans:
                resource = plain(part.resource.attributes)
                for scope in part.scope_spans:
                    self.spans.extend(Span(resource, span) for span in scope.spans)

    def of(self, trace):
        """The spans of a trace that have come so far."""
        with self.lock:
            return [span for span in self.spans if span.trace == trace]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

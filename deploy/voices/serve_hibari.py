"""A small neural voice (hibari, English, on the CPU) as an OpenAI-compatible speech server.

    .deps/hibari/bin/python deploy/voices/serve_hibari.py --port 8880

GET  /v1/models, /v1/audio/voices   what there is
POST /v1/audio/speech               {"model", "input", "voice", "speed", "response_format": "wav"} -> WAV, 24 kHz mono
Nothing is downloaded while it runs: the one voice that is offered comes with the package.
"""

import argparse
import io
import json
import sys
import threading
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hibari import Hibari

MODEL, VOICE = "hibari", "heart"
LONGEST_TEXT = 5000  # characters
LONGEST_BODY = 64 * 1024  # bytes


class Refusal(Exception):
    """A request that cannot be met, with the sentence that says why."""


class Speaker:
    def __init__(self):
        self.voice = Hibari(voice=VOICE)
        self.lock = threading.Lock()

    def wav(self, request):
        text, speed = request.get("input"), request.get("speed", 1.0)
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST_TEXT:
            raise Refusal(f"input: want 1 to {LONGEST_TEXT} characters")
        if request.get("model") != MODEL or request.get("voice") != VOICE:
            raise Refusal(f"there is the model {MODEL} with the voice {VOICE} alone")
        if request.get("response_format", "wav") != "wav":
            raise Refusal("response_format: there is wav alone")
        if isinstance(speed, bool) or not isinstance(speed, (int, float)) or not 0.5 <= speed <= 2:
            raise Refusal("speed: want 0.5 to 2")
        with self.lock:
            # The same text sounds the same every time.
            samples = self.voice(text, speed=float(speed), seed=0)
        if len(samples) == 0:
            raise Refusal("input: nothing in it can be pronounced")
        out = io.BytesIO()
        with wave.open(out, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(Hibari.sample_rate)
            file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
        return out.getvalue()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds that a connection may be silent

    def do_GET(self):
        if self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "hibari"}]})
        elif self.path == "/v1/audio/voices":
            self.answer(200, {"voices": [{"id": VOICE, "name": VOICE}]})
        else:
            self.answer(404, {"detail": "Not Found"})

    def do_POST(self):
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= LONGEST_BODY:
            self.close_connection = True
            self.answer(413, {"error": {"message": "the body has no length, or is too long"}})
            return
        body = self.rfile.read(length)
        if self.path != "/v1/audio/speech":
            self.answer(404, {"detail": "Not Found"})
            return
        try:
            request = json.loads(body)
            if not isinstance(request, dict):
                raise ValueError("no object")
            self.answer(200, self.server.speaker.wav(request))
        except ValueError:
            self.answer(400, {"error": {"message": "the body is not a JSON object"}})
        except Refusal as refusal:
            self.answer(400, {"error": {"message": str(refusal)}})

    def answer(self, status, content):
        sound = isinstance(content, bytes)
        body = content if sound else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "audio/wav" if sound else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Requests are not logged: they hold what people say."""


def main():
    options = argparse.ArgumentParser(description="hibari as an OpenAI-compatible speech server")
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=8880)
    given = options.parse_args()
    server = ThreadingHTTPServer((given.host, given.port), Handler)
    server.speaker = Speaker()
    print(f"hibari speaks at http://{given.host}:{server.server_port}", file=sys.stderr, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

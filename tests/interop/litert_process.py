"""LiteRT in a process of its own: a crash or a hang of its C++ code is an answer, not the end of the run."""

import multiprocessing

from peers import litert_interpreter, silent_stderr


class LitertFailure(Exception):
    """LiteRT refused the file, crashed on it, or took too long; says which."""


def _serve(pipe):
    while True:
        path, arrays, xnnpack = pipe.recv()
        try:
            with silent_stderr():
                runner = litert_interpreter(path, xnnpack).get_signature_runner("serving_default")
                outputs = {name: value.copy() for name, value in runner(**arrays).items()}
            pipe.send((outputs, None))
        except Exception as error:
            pipe.send((None, " ".join(str(error).split())))


class LitertProcess:
    """Runs `serving_default` of .tflite files; started when first used and again after a crash."""

    def __init__(self, seconds=20):
        self.seconds, self.process = seconds, None

    def outputs(self, path, arrays, xnnpack):
        """The outputs by name; inputs are resized to the arrays' shapes."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
            self.process.start()
            theirs.close()
        try:
            self.pipe.send((str(path), arrays, xnnpack))
            if not self.pipe.poll(self.seconds):
                self.stop()
                raise LitertFailure(f"LiteRT hangs: no answer after {self.seconds} s")
            outputs, error = self.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join(5)
            status = self.process.exitcode
            self.stop()
            raise LitertFailure(f"LiteRT crashes: exit status {status}") from None
        if error is not None:
            raise LitertFailure(f"LiteRT: {error}")
        return outputs

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None

"""A long session: thousands of frames, seeks at random, scripts loaded again; nothing grows, and nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SOAK = """
import ctypes, gc, json, random, threading
from pathlib import Path
import vapoursynth as vs
import vsr_plugin.vapoursynth as vsr

class Policy(vs.EnvironmentPolicy):
    current = None
    def on_policy_registered(self, api): self.api = api
    def on_policy_cleared(self): pass
    def get_current_environment(self): return self.current
    def set_environment(self, environment): self.current, before = environment, self.current; return before
    def is_alive(self, environment): return True

def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

policy, chance, memory, threads = Policy(), random.Random(1), [], []
vs.register_policy(policy)
for part in range(3):
    data = policy.api.create_environment()
    with policy.api.wrap_environment(data).use():
        vs.core.max_cache_size = 8  # what VapourSynth keeps for itself would hide a leak
        clip = vs.core.std.BlankClip(format=vs.YUV420P8, width=64, height=48, length=100_000, keep=True)
        large = vsr.upscale(clip, backend="eager", device_index=-1, num_streams=2, batch_size=4)
        done = 0
        while done < 1700:
            begin = chance.randrange(99_000)
            for number in range(begin, begin + chance.choice([1, 1, 5, 60])):  # a look, a glance, a scene
                large.get_frame(number).close()
                done += 1
            if done % 10 == 0 and done > 500:
                memory.append(resident())
    policy.api.destroy_environment(data)
    del clip, large
    gc.collect()
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("vsr")]
    assert not left, left
    threads.append(len(list(Path("/proc/self/task").iterdir())))
print(json.dumps([memory, threads]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_five_thousand_frames_take_no_more_memory_than_five_hundred() -> None:
    # One arena: glibc gives every thread one of its own, and each keeps what it once had.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", SOAK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    memory, threads = json.loads(done.stdout)
    assert threads[0] == threads[1] == threads[2]
    assert len(memory) > 20
    tenth = len(memory) // 10
    print("MiB:", max(memory[: 2 * tenth]) >> 20, max(memory[-tenth:]) >> 20, "threads:", threads)
    assert max(memory[-tenth:]) < 1.05 * max(memory[: 2 * tenth])

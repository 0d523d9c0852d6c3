"""ZBar and OpenCV behind one pipe: a picture in, the texts and the CPU time out.

Each request on standard input is width and height (32 bits each, little endian) and the grey pixels; each answer
on standard output is one line of JSON. Deliberately no pre-processing: these are the peers as they come.
"""

import json
import struct
import sys
import time

import numpy


def zbar():
    from pyzbar import pyzbar

    def read(picture):
        found = pyzbar.decode(picture, symbols=[pyzbar.ZBarSymbol.QRCODE])
        return [code.data.decode("utf-8", "replace") for code in found]

    return read


def opencv(kind):
    import cv2

    cv2.setNumThreads(1)
    detector = cv2.QRCodeDetector() if kind == "opencv" else cv2.QRCodeDetectorAruco()

    def read(picture):
        done, texts, _, _ = detector.detectAndDecodeMulti(picture)
        return [text for text in texts if text] if done else []

    return read


def main():
    kind = sys.argv[1]
    read = zbar() if kind == "zbar" else opencv(kind)
    inward, outward = sys.stdin.buffer, sys.stdout
    print("ready", file=outward, flush=True)
    while len(head := inward.read(8)) == 8:
        width, height = struct.unpack("<II", head)
        pixels = inward.read(width * height)
        picture = numpy.frombuffer(pixels, numpy.uint8).reshape(height, width)
        start = time.process_time()
        try:
            answer = {"texts": read(picture)}
        except Exception as error:  # a peer's failure is a result, and the next picture comes
            answer = {"error": str(error)}
        answer["ms"] = (time.process_time() - start) * 1000.0
        print(json.dumps(answer), file=outward, flush=True)


main()

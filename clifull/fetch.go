package clifull

import (
	"bufio"
	"context"
	"io"
	"strconv"

	"hull/codec"
	"hull/command"
	"hull/transfer"
)

// fetch is what load and import of a URL run as a child: hull itself does not
// speak HTTP.
func (s *session) fetch() *command.Command {
	return &command.Command{
		Usage: "URL",
		Args:  command.Exactly(1),
		Run: func(ctx context.Context, args []string) error {
			return transfer.Fetch(ctx, args[0], s.stdout)
		},
	}
}

// codec is how hull reads and writes what is compressed: it filters its input.
func (s *session) codec() *command.Command {
	return &command.Command{
		Usage: "compress|decompress KIND [LEVEL]",
		Args:  command.AtLeast(2),
		Run: func(ctx context.Context, args []string) error {
			in, out := bufio.NewReaderSize(s.stdin, 1<<20), bufio.NewWriterSize(s.stdout, 1<<20)
			return filter(in, out, args)
		},
	}
}

func filter(in io.Reader, out *bufio.Writer, args []string) error {
	if args[0] == "decompress" {
		z, err := codec.Codec{}.Decompress(in, args[1])
		if err != nil {
			return err
		}
		defer z.Close()
		if _, err := io.Copy(out, z); err != nil {
			return err
		}
		return out.Flush()
	}
	level := 0
	if len(args) > 2 {
		var err error
		if level, err = strconv.Atoi(args[2]); err != nil {
			return err
		}
	}
	z, err := codec.Codec{}.Compress(out, args[1], level)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, in); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return out.Flush()
}

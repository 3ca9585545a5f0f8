// A server on the library of Centrifugo with its Redis broker: rooms are channels, and any client may publish into them.
// HISTORY=on keeps the last 500 messages of each channel and lets clients recover from a position.
package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/centrifugal/centrifuge"
)

const (
	historySize = 500
	historyTTL  = 5 * time.Minute
)

func main() {
	if err := run(os.Getenv("PORT"), os.Getenv("REDIS_ADDRESS"), os.Getenv("HISTORY") == "on"); err != nil {
		log.Fatal(err)
	}
}

func run(port, redis string, history bool) error {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return err
	}
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: redis})
	if err != nil {
		return err
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
	if err != nil {
		return err
	}
	node.SetBroker(broker)
	allowAll(node, history)
	if err := node.Run(); err != nil {
		return err
	}

	// The two settings that its documentation names for less memory.
	handler := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		ReadBufferSize:     512,
		UseWriteBufferPool: true,
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	return http.Serve(listener, handler)
}

func allowAll(node *centrifuge.Node, history bool) {
	var publish centrifuge.PublishReply
	if history {
		publish.Options = centrifuge.PublishOptions{HistorySize: historySize, HistoryTTL: historyTTL}
	}
	subscribe := centrifuge.SubscribeReply{
		Options: centrifuge.SubscribeOptions{EnableRecovery: history, EnablePositioning: history},
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(subscribe, nil)
		})
		client.OnPublish(func(_ centrifuge.PublishEvent, answer centrifuge.PublishCallback) {
			answer(publish, nil)
		})
	})
}
